"""Random numbers as a function of (seed, purpose, sample index): nothing is drawn from a shared stream.

A sample's numbers are the same whichever process, device or part of the batch it falls into, and a run that resumes continues where it
stopped without any generator state. Each number is the SplitMix64 mix (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
generators", Fig. 17, with the finaliser of Stafford's variant 13) of the sample's key plus a multiple of the golden ratio, computed for
a whole batch at once in wrapping 64-bit integers, so that CPU and GPU agree.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_FLOAT_BITS = 24


@dataclass(frozen=True)
class Draws:
    """Every random number of one run. `index` is always [N] int64: global sample indices, on the device where the numbers are wanted."""

    seed: int
    dtype: torch.dtype = torch.float32
    """Of uniform and normal numbers. Other types hold the same numbers, rounded to float32."""

    def uniform(self, purpose: str, index: Tensor, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), [N, *shape]."""
        return _fraction(self._bits(purpose, index, math.prod(shape)), 64 - _FLOAT_BITS).reshape(len(index), *shape).to(self.dtype)

    def normal(self, purpose: str, index: Tensor, *shape: int) -> Tensor:
        """Standard normal numbers, [N, *shape] (Box and Muller 1958: two from each pair of uniform ones)."""
        count = math.prod(shape)
        bits = self._bits(purpose, index, (count + 1) // 2)
        radius = (-2 * (1 - _fraction(bits, 64 - _FLOAT_BITS)).log()).sqrt()
        angle = _fraction(bits, 64 - 2 * _FLOAT_BITS) * (2 * math.pi)
        pairs = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
        return pairs[:, :count].reshape(len(index), *shape).to(self.dtype)

    def below(self, purpose: str, index: Tensor, bound: int) -> Tensor:
        """Whole numbers in [0, bound), [N] int64; `bound` is at most 2^24."""
        if not 0 < bound <= 1 << _FLOAT_BITS:
            raise ValueError(f"draws: bound {bound}, expected 1 to 2^{_FLOAT_BITS}")
        top = (self._bits(purpose, index, 1)[:, 0] >> (63 - 31)) & 0x7FFFFFFF  # 31 bits: the product below fits in 64
        return (top * bound) >> 31

    def permutation(self, purpose: str, index: int, count: int) -> Tensor:
        """A random order of 0 … count - 1, [count] int64 on the CPU."""
        return self._bits(purpose, torch.tensor([index]), count)[0].argsort(stable=True)

    def _bits(self, purpose: str, index: Tensor, count: int) -> Tensor:
        """[N, count] int64, all 64 bits random."""
        base = int.from_bytes(hashlib.sha256(f"{self.seed}/{purpose}".encode()).digest()[:8], "little")
        keys = _mix(index * _signed(_GOLDEN) + _signed(base))
        steps = torch.arange(1, count + 1, device=index.device) * _signed(_GOLDEN)
        return _mix(keys[:, None] + steps)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser: every input bit flips every output bit with probability one half."""
    x = (x ^ _shift(x, 30)) * _signed(_MIX_1)
    x = (x ^ _shift(x, 27)) * _signed(_MIX_2)
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical shift to the right; torch's own keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _fraction(bits: Tensor, lowest: int) -> Tensor:
    """24 of the bits, from bit `lowest` on, as float32 in [0, 1)."""
    return ((bits >> lowest) & ((1 << _FLOAT_BITS) - 1)).float() * 2.0**-_FLOAT_BITS


def _signed(value: int) -> int:
    """An unsigned 64-bit number as the int64 with the same bits."""
    return value - (1 << 64) if value >= 1 << 63 else value
