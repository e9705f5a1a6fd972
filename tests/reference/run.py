"""All cases of a kind: computed, thinned as stored, compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.reference import operators
from tests.reference.compare import Comparison, compare
from tests.reference.discriminator import compute_discriminator
from tests.reference.folder import Folder
from tests.reference.generators import Named, compute_eg3d, compute_next3d

KINDS = ("next3d", "next3d_disc", "eg3d", "ops")
BY_PIXEL = ("zbuf", "bary", "uv", "alpha_masked", "alpha_filled")
"""Arrays of a view that are compared where both show the same triangle."""


@dataclass
class Result:
    """What has been found so far."""

    passed: int = 0
    failed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    arrays: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    """As stored, by KIND/NAME."""


def run(folder: Folder, kind: str, result: Result) -> Iterator[Comparison]:
    """Compute and compare the arrays of one kind; what is found goes into `result`."""
    stored = folder.stored(kind)
    agreeing: dict[str, Tensor] = {}
    for computed_name, value in compute(folder, kind):
        for name, thinned in stored.thinned(computed_name, value.detach()):
            full = f"{kind}/{name}"
            if name.endswith("names"):
                continue
            result.arrays[full] = thinned.numpy()
            comparison = compare(full, thinned, stored[name], _same_triangle(name, agreeing))
            if name.endswith("pix_to_face"):
                agreeing[name.rpartition("/")[0]] = thinned == stored[name]
            result.passed += comparison.passed
            if not comparison.passed:
                result.failed.append(full)
            yield comparison
    result.missing += [f"{kind}/{name}" for name in stored if _is_output(kind, name) and f"{kind}/{name}" not in result.arrays]


def compute(folder: Folder, kind: str) -> Named:
    """Named arrays of one kind."""
    if kind == "next3d":
        return compute_next3d(folder)
    if kind == "next3d_disc":
        return compute_discriminator(folder)
    return compute_eg3d(folder) if kind == "eg3d" else operators.compute(folder.path)


def _same_triangle(name: str, agreeing: dict[str, Tensor]) -> Tensor | None:
    """For arrays of a view: a mask of the pixels that show the stored triangle, shaped to broadcast."""
    view, _, last = name.rpartition("/")
    if view not in agreeing or last not in BY_PIXEL:
        return None
    mask = agreeing[view]
    return mask[..., None] if last == "bary" else mask[:, None] if last != "zbuf" else mask


def _is_output(kind: str, name: str) -> bool:
    if kind == "ops":
        return name.endswith("/out")
    return not name.startswith("in/") and name != "S/points" and not name.endswith("/names")
