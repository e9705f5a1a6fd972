"""All cases of a kind: computed, thinned as stored, compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from next3d.checkpoint import load_generator
from next3d.discriminator import Discriminator
from next3d.generator import TriplaneGenerator
from next3d.official.published import JUDGE, Published, is_published
from tests.reference import operators
from tests.reference.compare import Comparison, compare
from tests.reference.discriminator import compute_discriminator
from tests.reference.folder import FORMS, Folder, Stored, thin
from tests.reference.generators import Named, compute_eg3d, compute_next3d

KINDS = ("next3d", "next3d_disc", "eg3d", "ops")
BY_PIXEL = ("zbuf", "bary", "uv", "alpha_masked", "alpha_filled")
"""Arrays of a view that are compared where both show the same triangle."""
LARGE = 1 << 20
"""Arrays with more values than this are thinned, too, if the folder does not hold them in any form."""


@dataclass
class Result:
    """What has been found so far."""

    passed: int = 0
    failed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    arrays: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    """As stored, by KIND/NAME."""


@dataclass(frozen=True)
class Networks:
    """Networks that replace those of a folder's tensors."""

    generators: Mapping[str, TriplaneGenerator] = field(default_factory=dict)
    """By kind: next3d or eg3d."""
    judge: Discriminator | None = None
    """For next3d and next3d_disc."""

    @classmethod
    def open(cls, files: Mapping[str, Path]) -> Networks:
        """From snapshots or converted files, by kind; the judge is that of a Next3D snapshot."""
        generators, judge = {}, None
        for kind, path in files.items():
            if not is_published(path):
                generators[kind] = load_generator(path)
                continue
            published = Published.open(path)
            generators[kind] = published.generator()
            if kind == "next3d" and JUDGE in published.snapshot.networks:
                judge = published.discriminator()
        return cls(generators, judge)


OWN_NETWORKS = Networks()
"""Those of the folder's tensors."""


def run(folder: Folder, kind: str, result: Result, networks: Networks = OWN_NETWORKS) -> Iterator[Comparison]:
    """Compute and compare the arrays of one kind; what is found goes into `result`."""
    stored = folder.stored(kind)
    agreeing: dict[str, Tensor] = {}
    for computed_name, value in compute(folder, kind, networks):
        found = dict(stored.thinned(computed_name, value.detach()))
        for name, thinned in found.items():
            full = f"{kind}/{name}"
            result.arrays[full] = thinned.numpy()
            comparison = compare(full, thinned, stored[name], _same_triangle(name, agreeing))
            if name.endswith("pix_to_face") and thinned.shape == stored[name].shape:
                agreeing[name.rpartition("/")[0]] = thinned == stored[name]
            result.passed += comparison.passed
            if not comparison.passed:
                result.failed.append(full)
            yield comparison
        if not found:
            result.arrays |= {f"{kind}/{name}": part.numpy() for name, part in _not_stored(stored, computed_name, value.detach())}
    result.missing += [f"{kind}/{name}" for name in stored if _is_output(kind, name) and f"{kind}/{name}" not in result.arrays]


def compute(folder: Folder, kind: str, networks: Networks = OWN_NETWORKS) -> Named:
    """Named arrays of one kind."""
    if kind == "next3d":
        return compute_next3d(folder, networks.generators.get(kind), networks.judge)
    if kind == "next3d_disc":
        return compute_discriminator(folder, networks.judge)
    return compute_eg3d(folder, networks.generators.get(kind)) if kind == "eg3d" else operators.compute(folder.path)


def _same_triangle(name: str, agreeing: Mapping[str, Tensor]) -> Tensor | None:
    """For arrays of a view: a mask [N, ...] of the pixels that show the stored triangle, shaped to broadcast."""
    view, _, last = name.rpartition("/")
    if view not in agreeing or last not in BY_PIXEL:
        return None
    mask = agreeing[view]
    return mask[..., None] if last == "bary" else mask[:, None] if last != "zbuf" else mask


def _not_stored(stored: Stored, name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """An array of which the folder has nothing to compare with: whole, or in all forms if it is large."""
    if value.numel() <= LARGE or value.ndim < 4:
        yield name, value
        return
    low, high = stored.config.get("crop", (0, value.shape[-1] // 4))
    yield from ((f"{name}/{form}", thin(name, form, value, stride=stored.stride, window=high - low)) for form in FORMS)


def _is_output(kind: str, name: str) -> bool:
    if kind == "ops":
        return name.endswith("/out")
    return not name.startswith("in/") and name != "S/points" and not name.endswith("/names")
