"""What the generator's mapping is told: the camera, and with `--gen-exp-cond` the head's expression and jaw, too.

A condition is a label: the camera's 25 numbers, then expression [E] and the jaw's axis-angle [3].
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from dnnlib.errors import ConfigError
from next3d.head.model import HeadModel, HeadParams, Joint, LinearHeadModel
from next3d.render.cameras import mirrored_camera
from next3d.types import Camera
from training.batch import HeadRow
from training.config import TrainConfig
from training.dataset import PortraitDataset
from training.heads import ParameterHeads
from training.mirror import Mirror
from training.precision import clamped, with_blocks
from training.randomness import Draws

SAME_HEAD = 1e-3
"""World units by which a head of mirrored parameters may miss the mirrored head."""


def expression_size(dataset: PortraitDataset) -> int:
    """Numbers that say a head's expression and jaw.

    Raises:
        ConfigError: the data set's heads are meshes.
    """
    return _parameters(dataset).params.expression.shape[1] + 3


def _parameters(dataset: PortraitDataset) -> ParameterHeads:
    heads = dataset.contents.heads
    if not isinstance(heads, ParameterHeads):
        raise ConfigError("--gen-exp-cond: the data set's heads are meshes without expression parameters; leave it out for this data")
    return heads


def fitted(config: TrainConfig, dataset: PortraitDataset) -> TrainConfig:
    """The configuration with what only the data set knows, and with the clamps that half precision needs.

    Raises:
        ConfigError: the data cannot give what is asked for.
    """
    if config.data.mirror:
        Mirror(dataset.topology, "cpu")  # complains
        if config.data.expression:
            _mirror_map(_parameters(dataset).model)
    precision = with_blocks(config.precision)
    model = clamped(config.model, precision)
    mapping = replace(model.generator.mapping, expression_size=expression_size(dataset) if config.data.expression else 0)
    generator = replace(model.generator, head=dataset.head_name, mapping=mapping)
    return replace(config, model=replace(model, generator=generator), precision=precision)


class Conditions:
    """Conditions of all items of a data set, as they are and mirrored."""

    def __init__(self, dataset: PortraitDataset, *, expression: bool, mirror: bool, device: torch.device, dtype: torch.dtype) -> None:
        """Raises ConfigError where the data cannot give what is asked for."""
        self._expression = expression
        labels = dataset.labels
        sides = [labels]
        if mirror:
            sides.append(mirrored_camera(Camera.from_label(labels)).to_label())
        if expression:
            heads = _parameters(dataset)
            own = expression_and_jaw(heads.params)
            order, sign = _mirror_map(heads.model) if mirror else (torch.arange(own.shape[1]), torch.ones(own.shape[1]))
            self._order, self._sign = order.to(device), sign.to(device, dtype)
            sides = [torch.cat([side, part], dim=1) for side, part in zip(sides, (own, own[:, order] * sign), strict=False)]
        self._table = torch.stack(sides).to(device, dtype)  # [1 or 2, n, 25 + K]
        self.label_spread = labels.std(dim=0, correction=0).to(device, dtype)
        """[25] standard deviation of the camera labels over the data set."""

    def extra(self, head: HeadRow, flip: Tensor | None) -> Tensor | None:
        """Expression and jaw [N, K] of a batch's heads, of their mirror images where `flip` [N] says so; None if they are not asked for."""
        if not self._expression:
            return None
        assert isinstance(head, HeadParams)
        own = expression_and_jaw(head).to(self._table.dtype)
        return own if flip is None else torch.where(flip[:, None], own[:, self._order] * self._sign, own)

    def others(self, draws: Draws, position: Tensor) -> Tensor:
        """Conditions [N, 25 + K] of random items, for samples at global positions [N]."""
        item = draws.below("swapped label", position, self._table.shape[1])
        if len(self._table) == 1:
            return self._table[0, item]
        return self._table[draws.below("swapped side", position, 2), item]


def expression_and_jaw(params: HeadParams) -> Tensor:
    """[N, E + 3]."""
    return torch.cat([params.expression, params.pose[:, Joint.JAW]], dim=1)


def _mirror_map(model: HeadModel) -> tuple[Tensor, Tensor]:
    """Where expression and jaw [K] of a mirror image come from, and their signs.

    Raises:
        ConfigError: the model's parameters cannot say what a mirror image is.
    """
    refusal = ConfigError("--mirror with --gen-exp-cond: the head model's expressions have no mirror images; leave one of them out")
    if not isinstance(model, LinearHeadModel):
        raise refusal
    count = len(model.expression_names)
    neutral = model.neutral(count)
    single = replace(neutral, expression=torch.eye(count).to(neutral.expression))
    try:
        mirrored = model.mirror(single)
    except ValueError as error:  # an expression of one side without its counterpart
        raise refusal from error
    flip = torch.ones(count, dtype=torch.bool)
    missed = model(mirrored).vertices - Mirror(model.topology, "cpu").mesh(model(single), flip).vertices
    if missed.abs().max() > SAME_HEAD:
        raise refusal
    order = mirrored.expression.argmax(dim=0)
    jaw = torch.tensor([1.0, -1.0, -1.0])
    return torch.cat([order, count + torch.arange(3)]), torch.cat([torch.ones(count), jaw])
