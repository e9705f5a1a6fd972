"""Whole runs on data that is in shards behind a URL, and on data that is partly broken."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.runs import assert_equal_states, go, quick_config
from tests.training.server import serve
from tests.training.test_shards import shard
from training.config import TrainConfig


def lose_a_sample(folder: Path) -> None:
    """A byte of the image of sample 0 changes; sizes and index stay."""
    path = folder / "shards/000000.tar"
    data = bytearray(path.read_bytes())
    data[512 + 60] ^= 1
    path.write_bytes(data)


def test_a_run_on_broken_shards_is_cut_and_resumed_bit_by_bit(own: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """In lanes, with a replaced sample, with and without a loader process: the same weights; the broken sample is counted."""
    shard(own, tmp_path / "shards", kilobytes=20)
    lose_a_sample(tmp_path / "shards")

    def config(steps: int, workers: int) -> TrainConfig:
        plain = quick_config(tmp_path / "shards", steps)
        return replace(plain, data=replace(plain.data, workers=workers))

    with caplog.at_level(logging.WARNING):
        uncut = go(config(6, 0), tmp_path / "uncut", say=lambda line: None)
    assert caplog.text.count("is damaged (checksum)") == 1
    lines = [json.loads(line) for line in (uncut / "stats.jsonl").read_text().splitlines()]
    assert lines[-1]["data/broken"] == 1
    first = go(config(2, 1), tmp_path / "cut", say=lambda line: None)
    cut = go(config(6, 1), tmp_path / "cut", max(first.glob("*.state")), say=lambda line: None)
    assert_equal_states(uncut, cut)


def test_a_run_by_url_is_a_run_from_a_folder(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shard(own, tmp_path / "shards", kilobytes=20)
    local = go(quick_config(tmp_path / "shards", 3), tmp_path / "local", say=lambda line: None)
    with serve(tmp_path / "shards") as server:
        plain = quick_config(own, 3)
        remote = go(replace(plain, data=replace(plain.data, path=server.url)), tmp_path / "remote", say=lambda line: None)
    assert list((tmp_path / "cache/next3d/shards").glob("*.cached"))
    assert_equal_states(local, remote)
