from __future__ import annotations

import multiprocessing
import os
import shutil
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch

import training.remote
from dnnlib.errors import UserError
from dnnlib.files import sha256
from next3d.commands.main import run_command
from next3d.commands.train import train
from tests.training.server import FolderServer, serve
from tests.training.test_shards import shard
from training.check import check_dataset
from training.convert import ConvertConfig, convert_dataset
from training.dataset import open_dataset
from training.loader import choose_order, load_batches
from training.remote import FileCache, is_url, read_url
from training.sampler import LaneOrder
from training.stats import dataset_stats
from training.storage import StorageError


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.remote, "PAUSE", 0.001)


@pytest.fixture
def sharded(own: Path, tmp_path: Path) -> Path:
    shard(own, tmp_path / "sharded")
    return tmp_path / "sharded"


@pytest.fixture
def server(sharded: Path) -> Iterator[FolderServer]:
    with serve(sharded) as running:
        yield running


def shards_of(folder: Path) -> list[str]:
    return sorted(f"shards/{path.name}" for path in (folder / "shards").iterdir())


def test_what_is_a_url():
    assert all(is_url(text) for text in ("https://a.b/c", "s3://bucket/set", "file:///tmp/x"))
    assert not any(is_url(text) for text in ("/tmp/x", "data", "C:\\x", Path("a/b")))


def test_training_by_url_is_training_from_a_folder(sharded: Path, server: FolderServer, tmp_path: Path):
    """The same batches; each shard is fetched once in all, by whoever needs it first, and later runs fetch none."""
    local = [batch.pixels for batch in islice(load_batches(open_dataset(sharded), seed=1, start=0, size=4, group=2), 8)]
    for workers in (0, 1):
        dataset = open_dataset(server.url, cache=FileCache(tmp_path / "cache"))
        stream = load_batches(dataset, seed=1, start=0, size=4, group=2, workers=workers)
        assert all(torch.equal(batch.pixels, pixels) for batch, pixels in zip(stream, local, strict=False))
        stream.close()
    assert {server.whole[name] for name in shards_of(sharded)} == {1}
    assert not server.parts


@pytest.mark.parametrize("ranges", [True, False])
def test_single_samples_are_read_by_range(sharded: Path, server: FolderServer, tmp_path: Path, ranges: bool):
    """Grids and metrics do not fetch whole shards; servers that know no ranges work, too."""
    server.knows_ranges = ranges
    dataset = open_dataset(server.url, cache=FileCache(tmp_path / "cache"))
    assert torch.equal(dataset.read([7, 2]).pixels, open_dataset(sharded).read([7, 2]).pixels)
    assert sum(server.parts.values()) == 2
    assert not any(server.whole[name] for name in shards_of(sharded))


def test_a_process_fetches_its_own_shards_only(own: Path, tmp_path: Path):
    """Of ten shards with one sample each, the four that its lane goes through in two batches of four."""
    shard(own, tmp_path / "tiny", kilobytes=6)
    with serve(tmp_path / "tiny") as server:
        dataset = open_dataset(server.url, cache=FileCache(tmp_path / "cache"))
        stream = load_batches(dataset, seed=0, start=0, size=4, group=2, rank=1, ranks=2)
        next(stream)
        next(stream)
    order = choose_order(dataset, 0, 4, 2)
    assert isinstance(order, LaneOrder)
    assert len(dataset.shard_sizes) == 10
    names = [f"shards/{number:06d}.tar" for number in order.ahead(0, range(1, 2), 4)]
    assert {name for name in server.whole if name.startswith("shards/")} == set(names)
    assert len(names) == 4


def test_file_urls_and_fsspec(sharded: Path, tmp_path: Path):
    fsspec = pytest.importorskip("fsspec")
    expected = open_dataset(sharded).read([3]).pixels
    assert torch.equal(open_dataset(f"file://{sharded}", cache=FileCache(tmp_path / "one")).read([3]).pixels, expected)
    memory = fsspec.filesystem("memory")
    memory.put(str(sharded), "/bucket", recursive=True)
    dataset = open_dataset("memory://bucket", cache=FileCache(tmp_path / "two"))
    assert torch.equal(dataset.read([3]).pixels, expected)
    dataset.bring([3])
    assert torch.equal(dataset.read([3]).pixels, expected)
    with pytest.raises(StorageError, match="need another package"):
        read_url("nosuchscheme://x/y")


def test_train_takes_a_url(server: FolderServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """The command finds the data, keeps it where it was told to, and refuses a cache that is too small."""
    cache = tmp_path / "elsewhere"
    arguments = ["--outdir", str(tmp_path / "runs"), "--cfg", "tiny", "--data", server.url, "--data-cache", str(cache), "--threads", "1"]
    assert run_command(train, [*arguments, "--dry-run"]) == 0
    assert server.url in capfd.readouterr().out
    assert len(list(cache.glob("*.cached"))) == 2
    assert run_command(train, [*arguments, "--data-cache-gb", "0.00001"]) == 2
    assert "give a higher --data-cache-gb" in capfd.readouterr().err


def test_whole_sets_are_read_shard_by_shard(sharded: Path, server: FolderServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Check, stats and convert fetch each shard once; a shard that is gone is one problem for check, and the end for the others."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(training.remote, "TRIES", 2)
    assert check_dataset(server.url).problems == []
    assert dataset_stats(server.url).count == 10
    assert convert_dataset(ConvertConfig(source=server.url), tmp_path / "copy.zip").count == 10
    assert {server.whole[name] for name in shards_of(sharded)} == {1}
    assert not server.parts
    shutil.rmtree(tmp_path / "cache")
    (sharded / shards_of(sharded)[0]).unlink()
    problems = check_dataset(server.url).problems
    assert len(problems) == 1
    assert "000000.tar: cannot be read (File not found)" in problems[0]
    with pytest.raises(StorageError, match="File not found"):
        dataset_stats(server.url)


def test_failures_pass(sharded: Path, server: FolderServer, tmp_path: Path):
    """A few refusals are waited out; what stays away is one sentence with the address."""
    name = shards_of(sharded)[0]
    path = sharded / name
    cache = FileCache(tmp_path / "cache")
    server.failures = 4
    assert cache.fetch(f"{server.url}/{name}", sha256(path), path.stat().st_size).read_bytes() == path.read_bytes()
    server.failures = 1000
    with pytest.raises(StorageError, match=r"dataset\.json: cannot be read \(Service Unavailable\); check the address"):
        open_dataset(server.url, cache=cache)
    server.failures = 0
    with pytest.raises(StorageError, match=r"nowhere: cannot be read \(File not found\)"):
        read_url(f"{server.url}/nowhere")
    assert server.whole["nowhere"] == 1, "asked again although the answer will not change"


def test_what_does_not_match_its_checksum_is_not_kept(sharded: Path, server: FolderServer, tmp_path: Path):
    name = shards_of(sharded)[0]
    dataset = open_dataset(server.url, cache=FileCache(tmp_path / "cache"))
    data = bytearray((sharded / name).read_bytes())
    data[2000] ^= 1
    (sharded / name).write_bytes(data)
    kept = set((tmp_path / "cache").glob("*.cached"))
    with pytest.raises(StorageError, match="with another checksum"):
        dataset.bring([0])
    assert set((tmp_path / "cache").glob("*.cached")) == kept
    assert not list((tmp_path / "cache").glob(".*.cached"))


def test_damage_in_the_cache_is_repaired(sharded: Path, server: FolderServer, tmp_path: Path):
    dataset = open_dataset(server.url, cache=FileCache(tmp_path / "cache"))
    expected = dataset.read([0]).pixels
    dataset.bring([0])
    kept = tmp_path / "cache" / f"{sha256(sharded / shards_of(sharded)[0])}.cached"
    kept.write_bytes(bytes(kept.stat().st_size))
    assert torch.equal(dataset.read([0]).pixels, expected)
    assert not kept.exists()


def test_the_cache_is_bounded(tmp_path: Path):
    """What was not asked for for the longest time goes; a reader keeps what it has open."""
    cache = FileCache(tmp_path / "cache", limit_gb=2500 / 1e9)
    files = [tmp_path / f"{number}.bin" for number in range(4)]
    for number, path in enumerate(files):
        path.write_bytes(bytes([number]) * 1000)
    kept = [cache.fetch(path.as_uri(), sha256(path), 1000) for path in files[:2]]
    os.utime(kept[0], (1, 1))
    assert cache.find(sha256(files[0]), 1000) == kept[0]  # asked for: now the latest
    os.utime(kept[1], (1, 1))
    with kept[1].open("rb") as reader:
        cache.fetch(files[2].as_uri(), sha256(files[2]), 1000)
        assert reader.read() == bytes([1]) * 1000
    assert kept[0].exists()
    assert not kept[1].exists()


def test_a_cache_that_is_too_small_is_an_error(server: FolderServer, tmp_path: Path):
    dataset = open_dataset(server.url, cache=FileCache(tmp_path / "cache", limit_gb=1e-5))
    with pytest.raises(UserError, match="give a higher --data-cache-gb"):
        load_batches(dataset, seed=0, start=0, size=4, group=2)


def _fetch(arguments: tuple[Path, str, str, int]) -> int:
    folder, url, digest, size = arguments
    return len(FileCache(folder).fetch(url, digest, size).read_bytes())


def test_many_fetch_the_same_at_once(sharded: Path, server: FolderServer, tmp_path: Path):
    """Threads and processes get the whole file; it is fetched once."""
    name = shards_of(sharded)[0]
    path = sharded / name
    job = (tmp_path / "cache", f"{server.url}/{name}", sha256(path), path.stat().st_size)
    threads = [threading.Thread(target=_fetch, args=(job,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert pool.map(_fetch, [job] * 6) == [path.stat().st_size] * 6
    for thread in threads:
        thread.join()
    assert server.whole[name] == 1
