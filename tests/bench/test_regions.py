"""Regions: what is measured is the region's own, and the program is as before afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench.regions import _peaks_in_trace, region_flops, region_peaks, region_times, wrapped


class Pair(nn.Module):
    """Two convolutions of which the first has 16 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, image):
        return self.second(self.first(image))


@pytest.fixture
def program():
    pair = Pair().requires_grad_(False)
    image = torch.zeros(1, 3, 32, 32)
    regions = {"both": (pair, "forward"), "first": (pair.first, "forward"), "second": (pair.second, "forward")}
    return (lambda: pair(image)), regions


def test_flops_of_a_convolution(program):
    flops = region_flops(*program)
    assert flops["first"] == flops["second"] == 2 * 32 * 32 * 16 * 27
    assert flops["both"] == 2 * flops["first"]


def test_lookups_have_flops():
    image, grid = torch.zeros(2, 5, 8, 8), torch.zeros(2, 4, 4, 2)
    regions = {"lookup": (nn.functional, "grid_sample")}
    flops = region_flops(lambda: nn.functional.grid_sample(image, grid, align_corners=False), regions)
    assert flops["lookup"] == 2 * 5 * 16 * 4 * 2


def test_peaks_hold_at_least_the_output(program):
    peaks = region_peaks(*program)
    assert peaks["first"] >= 16 * 32 * 32 * 4
    assert peaks["both"] >= (16 + 3) * 32 * 32 * 4 * 0.99
    assert peaks["both"] < 2**24


def test_peak_is_the_highest_sum_within_the_region():
    def memory(ts: float, size: int, device: int = 0) -> dict:
        return {"name": "[memory]", "ts": ts, "args": {"Bytes": size, "Device Type": device}}

    events = [
        memory(1, 1000),
        {"name": "region:a", "ts": 2, "dur": 8},
        memory(3, 50),
        memory(4, -50),
        memory(5, 70),
        memory(6, 999, device=1),
        memory(7, 20),
        memory(8, -90),
        memory(11, 5000),
    ]
    assert _peaks_in_trace(events, ["a", "never"]) == {"a": 90, "never": 0}


def test_times_add_up_calls_and_leave_out_the_warm_up(monkeypatch):
    class Clock:
        now = 0.0

        def perf_counter(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr("bench.regions.time", clock)

    class Steps:
        runs = 0

        def step(self) -> None:
            clock.now += 100 if self.runs == 1 else self.runs  # the first run is slow

    steps = Steps()

    def program() -> None:
        steps.runs += 1
        steps.step()
        steps.step()

    assert region_times(program, {"step": (steps, "step")}, repeats=3) == {"step": 6}


def test_functions_are_put_back(program):
    run, regions = program
    owner, attribute = regions["both"]
    before = getattr(owner, attribute)
    with pytest.raises(ZeroDivisionError), wrapped(regions, lambda name, function: lambda *inputs: 1 // 0):
        run()
    assert getattr(owner, attribute) == before
    assert attribute not in vars(owner)
