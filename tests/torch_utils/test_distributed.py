from __future__ import annotations

import os
import time

import pytest
import torch

from dnnlib.errors import ConfigError
from tests.processes import run_ranks
from torch_utils.distributed import ALONE, World, any_rank, barrier, gather_rows, join, sum_over_ranks, world, world_of


def test_alone_nothing_happens():
    x = torch.arange(3)
    assert world() == ALONE == World(0, 1, 0)
    assert sum_over_ranks(x) is x
    assert gather_rows(x) is x
    assert any_rank(True)
    assert not any_rank(False)
    barrier()


def everything() -> dict[str, object]:
    """Every collective once."""
    me = world()
    mine = torch.full((2, 2), me.rank + 1.0).t()
    return {
        "world": me,
        "sum": sum_over_ranks(mine).tolist(),
        "kept": mine.tolist(),
        "equal": gather_rows(torch.tensor([[me.rank]])).tolist(),
        "ragged": gather_rows(torch.full((me.rank, 2), me.rank, dtype=torch.float64)).tolist(),
        "flags": gather_rows(torch.tensor([me.rank == 1])).tolist(),
        "any": (any_rank(me.rank == 1), any_rank(False)),
    }


def test_collectives_of_two_ranks():
    first, second = run_ranks(everything, 2)
    assert (first.pop("world"), second.pop("world")) == (World(0, 2, 0), World(1, 2, 1))
    assert (first.pop("kept"), second.pop("kept")) == ([[1, 1], [1, 1]], [[2, 2], [2, 2]])
    assert first == second
    assert first["sum"] == [[3, 3], [3, 3]]
    assert first["equal"] == [[0], [1]]
    assert first["ragged"] == [[1, 1]]
    assert first["flags"] == [False, True]
    assert first["any"] == (True, False)


def late() -> float:
    """Seconds that this rank waited for the other."""
    if world().rank == 1:
        time.sleep(0.3)
    start = time.monotonic()
    barrier()
    return time.monotonic() - start


def lose_one() -> None:
    """One rank is killed while the other waits for it."""
    if world().rank == 1:
        os._exit(9)
    barrier()


def test_barrier_waits_for_all():
    assert run_ranks(late, 2)[0] > 0.2


def test_a_lost_rank_is_an_error_not_a_hang():
    with pytest.raises(AssertionError, match=r"rank 1 died|rank 0 failed"):
        run_ranks(lose_one, 2, timeout=20)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({}, ALONE), ({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, World(3, 8, 1))],
    ids=["no launcher", "torchrun"],
)
def test_the_environment_says_who_we_are(environment, expected):
    assert world_of(environment) == expected


@pytest.mark.parametrize(
    "environment",
    [{"RANK": "0"}, {"RANK": "x", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, {"RANK": "2", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}],
    ids=["incomplete", "no number", "out of range"],
)
def test_an_incomplete_environment_is_an_error(environment):
    with pytest.raises(ConfigError, match="torchrun"):
        world_of(environment)


def test_one_process_joins_nothing(monkeypatch):
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with join(torch.device("cpu")) as me:
        assert me == world() == ALONE
