"""Bundles of tensors in chunks: long films pass through in pieces, so that memory does not grow with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from next3d.types import TensorBundle

CHUNK = 32
"""Frames that are worked on at a time."""
_Bundle = TypeVar("_Bundle", bound=TensorBundle)


def chunks(count: int) -> Iterator[slice]:
    """0 ... count - 1 in pieces."""
    for first in range(0, count, CHUNK):
        yield slice(first, min(first + CHUNK, count))


def concatenate(bundles: Sequence[_Bundle]) -> _Bundle:
    """Bundles one after the other along the batch dimension."""
    joined: dict[str, Any] = {}
    for field in fields(bundles[0]):
        parts = [getattr(bundle, field.name) for bundle in bundles]
        if isinstance(parts[0], Tensor):
            joined[field.name] = torch.cat(parts)
        elif isinstance(parts[0], TensorBundle):
            joined[field.name] = concatenate(parts)
    return replace(bundles[0], **joined)
