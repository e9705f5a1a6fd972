"""Commands that run as several processes: started by themselves, by torchrun, or alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from dnnlib.errors import ConfigError, LostProcessError, UserError
from dnnlib.machine import physical_cores
from next3d.commands.network import choose_device

if TYPE_CHECKING:
    import torch

ARGUMENTS = "next3d.arguments"
"""Where click's context keeps the command line."""
EXIT_LOST_PROCESS = 1
EXIT_USER_ERROR = 2


class RepeatableCommand(click.Command):
    """A command that keeps its command line, so that other processes can be started with it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep, then parse."""
        ctx.meta[ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)


@dataclass(frozen=True)
class Place:
    """Where this process stands, before there is a group."""

    device: torch.device
    rank: int
    ranks: int
    """Processes of the run."""
    launches: bool
    """Whether this one is to start them, and is none of them itself."""


def find_place(gpus: int, *, given: bool, threads: int | None) -> Place:
    """Read the launcher's environment, choose the device, and set the number of CPU threads: each process's share of the cores.

    Args:
        gpus: the value of `--gpus`.
        given: whether a person typed it.
        threads: CPU threads of each process, if a person typed that.

    Raises:
        UserError: the environment is incomplete, or the machine has too few GPUs.
    """
    import torch

    from torch_utils.distributed import world_of

    me, started = world_of(os.environ), "RANK" in os.environ
    here = os.environ.get("LOCAL_WORLD_SIZE", "1") if started else str(gpus)
    if not here.isdecimal() or int(here) < 1:
        raise ConfigError(f"environment: LOCAL_WORLD_SIZE={here}, expected a number; start with torchrun.")
    if started and given and gpus not in (me.size, int(here)):
        raise ConfigError(f"--gpus={gpus}: a launcher has already started {me.size} processes; leave --gpus out.")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found and max(int(here), me.local_rank + 1) > found:
        raise ConfigError(f"--gpus={here}: this machine shows {found} GPU{'s' if found > 1 else ''}; start as many processes at most.")
    device = choose_device(f"cuda:{me.local_rank}" if found else "cpu", threads or max(1, physical_cores() // int(here)))
    return Place(device, me.rank, me.size if started else gpus, launches=not started and gpus > 1)


@contextmanager
def told_to_launcher() -> Iterator[None]:
    """Errors of a process that a launcher started reach a person once, from the launcher; under torchrun they say which rank speaks."""
    from training.launch import follow_launcher, leave_report

    rank, several = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1") != "1"
    follow_launcher(os.environ)
    try:
        yield
    except (UserError, LostProcessError) as error:
        code = EXIT_LOST_PROCESS if isinstance(error, LostProcessError) else EXIT_USER_ERROR
        if leave_report(os.environ, int(rank), code, str(error)):
            raise click.exceptions.Exit(code) from error
        if several:
            raise type(error)(f"rank {rank}: {error}") from error
        raise
