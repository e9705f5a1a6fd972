"""The small network that reads plane features: density and colour features at a point (EG3D, Sec. 3)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from next3d.stylegan2.layers import FullyConnected
from torch_utils.ops.decoder_mlp import decoder_mlp

COLOR_MARGIN = 0.001
"""Colours are a sigmoid stretched by this margin at both ends, so that black and white are reachable (mip-NeRF, Sec. 3.1)."""


@dataclass(frozen=True)
class Samples:
    """What the decoder finds at M points."""

    features: Tensor
    """[N, M, C], about [0, 1]; the first three are red, green, blue."""
    density: Tensor
    """[N, M], raw: softplus(density - 1) is density per world unit."""


class Decoder(nn.Module):
    """Mean plane features [N, M, C] to `Samples`: one hidden softplus layer."""

    def __init__(self, in_features: int, *, hidden: int, out_features: int) -> None:
        super().__init__()
        self.net = nn.Sequential(FullyConnected(in_features, hidden), nn.Softplus(), FullyConnected(hidden, 1 + out_features))

    @property
    def hidden(self) -> FullyConnected:
        """Plane features to hidden units."""
        return self._layer(0)

    @property
    def output(self) -> FullyConnected:
        """Hidden units to density (row 0) and colour features."""
        return self._layer(2)

    def _layer(self, index: int) -> FullyConnected:
        layer = self.net[index]
        assert isinstance(layer, FullyConnected)
        return layer

    def forward(self, features: Tensor) -> Samples:
        weights = (*self.hidden.scaled(features.dtype), *self.output.scaled(features.dtype))
        return Samples(*decoder_mlp(features, *weights, margin=COLOR_MARGIN))  # one op: this runs at every sample of every ray
