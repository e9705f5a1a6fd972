"""Files are whole or absent; output folders are checked without being made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from dnnlib.errors import UserError, WriteError
from dnnlib.files import AppendFile, FolderClaim, atomic_write, check_output_folder, make_output_folder, remove_leftovers, sha256
from tests.full_disk import no_file_longer_than


def test_atomic_write_puts_the_file_in_place_and_nothing_else(tmp_path: Path):
    with atomic_write(tmp_path / "new" / "a.txt") as temporary:
        assert temporary.parent == tmp_path / "new", "a rename is only atomic inside one folder"
        assert temporary.suffix == ".txt"
        temporary.write_text("whole")
        assert not (tmp_path / "new" / "a.txt").exists()
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.txt"]
    assert (tmp_path / "new" / "a.txt").read_text() == "whole"


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, UserError])
def test_a_failure_keeps_the_old_file_and_leaves_no_trace(tmp_path: Path, failure: type[BaseException]):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write_half() -> None:
        with atomic_write(target) as temporary:
            temporary.write_text("half")
            raise failure

    with pytest.raises(failure):
        write_half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_new_file_has_the_permissions_of_any_other(tmp_path: Path):
    (tmp_path / "plain").write_text("")
    with atomic_write(tmp_path / "atomic") as temporary:
        temporary.write_text("")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_forgetting_to_write_is_an_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "a.txt"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=str(tmp_path)), atomic_write(tmp_path):
        pass


def test_checking_an_output_folder_makes_nothing(tmp_path: Path):
    folder = tmp_path / "a" / "b"
    assert check_output_folder(folder) == folder
    assert list(tmp_path.iterdir()) == []
    assert make_output_folder(folder).is_dir()


def test_an_output_folder_below_a_file_is_refused(tmp_path: Path):
    file = tmp_path / "file"
    file.write_text("")
    for path in (file, file / "below" / "deeper"):
        with pytest.raises(UserError, match="not a folder"):
            check_output_folder(path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_read_only_folder_is_refused(tmp_path: Path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UserError, match="no permission"):
            check_output_folder(tmp_path / "a")
    finally:
        tmp_path.chmod(0o700)


def test_sha256_of_known_bytes(tmp_path: Path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1


@pytest.mark.parametrize("size", [0, 1, 500, 999])
def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(tmp_path: Path, size: int):
    target = tmp_path / "a.txt"
    target.write_text("old")
    refused = pytest.raises(WriteError, match=r"a\.txt: cannot be written \(.*\); free some space")
    with no_file_longer_than(size), refused, atomic_write(target) as temporary:
        temporary.write_bytes(bytes(1000))
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("size", range(10, 31))
def test_records_that_do_not_fit_wait_and_none_is_ever_cut(tmp_path: Path, size: int):
    file = AppendFile(tmp_path / "log")
    file.append(b"0123456789")
    with no_file_longer_than(size):
        written = 10
        for _ in range(3):
            with suppress(WriteError):
                file.append(b"0123456789")
                written += 10
        assert file.path.stat().st_size == written == size // 10 * 10
    file.append(b"end")
    file.close()
    assert file.path.read_bytes() == b"0123456789" * 4 + b"end"
    again = AppendFile(tmp_path / "log")
    again.append(b"!")
    again.close()
    assert file.path.read_bytes().endswith(b"end!")


def test_leftovers_of_killed_processes_go_and_nothing_else(tmp_path: Path):
    with atomic_write(tmp_path / "network.state") as temporary:
        temporary.write_text("half")
        (tmp_path / ".gitignore").touch()
        (tmp_path / "notes.1-12345678.txt").touch()
        os.link(temporary, tmp_path / f".network.{os.getpid()}-0123abcd.state")
    (left,) = remove_leftovers(tmp_path)
    assert left.name.endswith("-0123abcd.state")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".gitignore", "network.state", "notes.1-12345678.txt"]


def test_a_folder_belongs_to_one_process(tmp_path: Path):
    """Another process is refused while this one has it, and gets it when it is dead, whatever its children do."""
    script = "import os, sys, time; from dnnlib.files import FolderClaim; claim = FolderClaim(sys.argv[1]); "
    script += "child = os.fork(); child and print('mine', flush=True); time.sleep(60)"
    repository = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=repository, start_new_session=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "mine\n"
        with pytest.raises(UserError, match="another process works in it; wait until it has ended"):
            FolderClaim(tmp_path)
        holder.kill()  # its child lives on
        holder.wait()
        claim = FolderClaim(tmp_path)
        os.killpg(holder.pid, signal.SIGKILL)
        claim.release()
