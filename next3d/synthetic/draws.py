"""Random streams keyed by (seed, sample index, purpose).

A sample looks the same whoever renders it and in whatever order: nothing is drawn from a shared stream, and a new
purpose never shifts the numbers of the others.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def keyed_seed(seed: int, index: int, purpose: str) -> int:
    """A 63-bit seed that depends on all three keys."""
    digest = hashlib.sha256(f"{seed}/{index}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def torch_stream(seed: int, index: int, purpose: str) -> torch.Generator:
    """A CPU generator for tensors."""
    return torch.Generator().manual_seed(keyed_seed(seed, index, purpose))


def numpy_stream(seed: int, index: int, purpose: str) -> np.random.Generator:
    """A generator for scalars and small arrays."""
    return np.random.Generator(np.random.Philox(keyed_seed(seed, index, purpose)))
