"""Snapshot files of the tiny released networks of `tests.reference.tiny`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tests.next3d.official.snapshot_maker import Network, snapshot_bytes
from tests.reference.tiny import State, is_parameter

RESOLUTION = 16
"""Neural rendering resolution when the snapshot was written; constructors set another one."""


def network(state: State, arguments: Mapping[str, Any], **attributes: Any) -> Network:
    """A network with these tensors, as the original programs would write it."""
    class_name = arguments["class_name"].rpartition(".")[2]
    kwargs = {name: value for name, value in arguments.items() if name != "class_name"}
    parameters = {name: value for name, value in state.items() if is_parameter(name)}
    buffers = {name: value for name, value in state.items() if name not in parameters}
    package = arguments["class_name"].rpartition(".")[0]
    decoder = {"decoder": f"{package}.OSGDecoder", "decoder.net": "torch.nn.modules.container.Sequential"}
    plain = decoder if "decoder.net.0.weight" in state else {}
    return Network(class_name, kwargs, parameters, buffers, attributes=attributes, plain=plain)


def generator(state: State, arguments: Mapping[str, Any], uv_mask: torch.Tensor | None = None) -> Network:
    """A generator, with the training loop's buffer and what is kept outside of the state dict."""
    mask = {} if uv_mask is None else {"uv_face_mask": uv_mask, "orth_scale": torch.tensor([[5.0]])}
    with_buffer = state | {"dataset_label_std": torch.ones(25)}
    return network(with_buffer, arguments, neural_rendering_resolution=RESOLUTION, **mask)


def write_snapshot(path: Path, **networks: Network) -> Path:
    """A file with these networks, by the names "G", "D" and "G_ema"."""
    path.write_bytes(snapshot_bytes(networks, training_set={"resolution": 128}, extra={"augment_pipe": None, "progress": {"cur_nimg": 25}}))
    return path
