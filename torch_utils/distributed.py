"""Several processes that train together: who am I, and the few collectives that training needs.

Processes find each other as `torchrun` tells them (environment variables RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT). CUDA
tensors travel by NCCL, CPU tensors by gloo, also between processes with GPUs: a flag that lives on the host never waits for a GPU.
Only plain tensors travel. A process that is alone has no group, and everything here does nothing for it.

Collectives must be called by every rank, in the same order. If a rank is lost, those of the others raise RuntimeError.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from dnnlib.errors import ConfigError, LostProcessError

PATIENCE = timedelta(hours=1)
"""Ranks wait so long for each other: longer than one of them needs to write a snapshot or to measure."""


@dataclass(frozen=True)
class World:
    """Where this process stands among those that train together."""

    rank: int
    """Number of this process, 0 to size - 1."""
    size: int
    """How many there are."""
    local_rank: int
    """Number of this process among those of its machine: the GPU it uses."""

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files and talks to people."""
        return self.rank == 0


ALONE = World(0, 1, 0)


def world() -> World:
    """The group that this process is in; (0, 1, 0) outside one."""
    if not (dist.is_available() and dist.is_initialized()):
        return ALONE
    return World(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")))


def world_of(environment: Mapping[str, str]) -> World:
    """What a launcher's environment says, before there is a group; (0, 1, 0) if no launcher started this process.

    Raises:
        ConfigError: variables are missing or not numbers.
    """
    if "RANK" not in environment and "WORLD_SIZE" not in environment:
        return ALONE
    try:
        found = World(*(int(environment[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
    except (KeyError, ValueError) as error:
        raise ConfigError(f"environment: RANK, WORLD_SIZE and LOCAL_RANK must all be numbers ({error}); start with torchrun") from error
    if not 0 <= found.rank < found.size:
        raise ConfigError(f"environment: RANK={found.rank} of WORLD_SIZE={found.size}; start with torchrun")
    return found


@contextmanager
def join(device: torch.device) -> Iterator[World]:
    """Be part of the group that the environment describes; leaves it at the end. Without a launcher, or as its only process: no group.

    Args:
        device: where this process computes; decides between NCCL with gloo, and gloo alone.

    Raises:
        ConfigError: the environment is incomplete.
        LostProcessError: another rank went away, or never came.
    """
    expected = world_of(os.environ)
    if expected.size == 1:
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        meeting = next(iter(dist.rendezvous("env://", timeout=PATIENCE)))[0]  # type: ignore[attr-defined]
        store = dist.PrefixStore(_incarnation(expected.size), meeting)  # type: ignore[attr-defined]
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=expected.rank, world_size=expected.size, timeout=PATIENCE)
        yield world()
    except RuntimeError as error:
        if not _is_lost(error):
            raise
        reason = re.split(r"\. |\n", str(error).strip())[0]
        raise LostProcessError(f"training: another process of the run is gone, or does not answer ({reason}).") from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _incarnation(size: int) -> str:
    """A name for the group that changes when torchrun starts its processes again.

    Its store outlives them: without a name of their own they would find the addresses of those who are gone, and wait for them.
    """
    return f"next3d/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{size}"


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Elementwise sum over all ranks, the same bytes on each: a new tensor; the tensor itself where a process is alone."""
    if world().size == 1:
        return tensor
    total = tensor.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def gather_rows(tensor: Tensor) -> Tensor:
    """The rows of all ranks, [n_0 + n_1 + …, ...] in rank order, on each of them.

    Args:
        tensor: [n, ...]; n may differ between ranks, everything else must not. Waits for the device if ranks differ in n.
    """
    size = world().size
    if size == 1:
        return tensor
    counts = torch.zeros(size, dtype=torch.int64)
    counts[world().rank] = len(tensor)
    rows: list[int] = sum_over_ranks(counts).tolist()
    plain = tensor.detach().to(torch.uint8) if tensor.dtype == torch.bool else tensor.detach()
    mine = plain.new_zeros(max(rows), *plain.shape[1:])  # all ranks send equally much
    mine[: len(plain)] = plain
    received = [torch.empty_like(mine) for _ in rows]
    dist.all_gather(received, mine)
    return torch.cat([part[:count] for part, count in zip(received, rows, strict=True)]).to(tensor.dtype)


def any_rank(flag: bool) -> bool:
    """Whether any rank says yes. Every rank waits here for the others, but for no GPU."""
    if world().size == 1:
        return flag
    total = torch.tensor([int(flag)], dtype=torch.int32)
    dist.all_reduce(total, op=dist.ReduceOp.MAX)
    return bool(total.item())


def barrier() -> None:
    """Wait until every rank is here."""
    any_rank(False)


def text_of_first(text: str) -> str:
    """The text that the first rank has, on every rank."""
    if world().size == 1:
        return text
    letters = list(text.encode()) if world().is_first else []
    return bytes(gather_rows(torch.tensor(letters, dtype=torch.uint8)).tolist()).decode()


def _is_lost(error: RuntimeError) -> bool:
    """Whether an error says that another rank is gone."""
    signs = ("connection closed by peer", "connection reset", "broken pipe", "connection refused", "timed out", "nccl", "gloo")
    return isinstance(error, dist.DistError) or any(sign in str(error).lower() for sign in signs)
