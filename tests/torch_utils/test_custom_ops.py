"""Building C++ operators: once, again when something changed, and with a readable reason when it cannot be done."""

from __future__ import annotations

import functools
import shutil
import sys
import threading
import warnings
from pathlib import Path

import pytest

from torch_utils import custom_ops
from torch_utils.custom_ops import BackendError, resolve_backend

SOURCE = 'extern "C" int answer() { return 42; }\n'  # no torch headers: compiles at once


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    """An operator "answer" in a folder of its own, a cache of its own, and a compiler that notes every library it makes."""
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "answer.cpp").write_text(SOURCE)
    wrapper = tmp_path / "compiler with a space"
    wrapper.write_text(f'#!/bin/sh\ncase "$*" in *-shared*) echo built >> "{tmp_path}/builds" ;; esac\nexec {compiler} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setattr(custom_ops, "SOURCES", sources)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", f"'{wrapper}'")
    monkeypatch.setattr(custom_ops, "_load", custom_ops._load.__wrapped__)
    monkeypatch.setattr(custom_ops, "_warn_once", custom_ops._warn_once.__wrapped__)
    return tmp_path


def builds(workshop: Path) -> int:
    log = workshop / "builds"
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_library_is_built_once_and_registered_after_loading(workshop):
    registered = []
    assert resolve_backend("cpu", "answer", "cpu", lambda: registered.append(1)) == "cpu"
    assert resolve_backend("auto", "answer", "cpu", lambda: registered.append(2)) == "cpu"
    assert registered == [1, 2]
    assert builds(workshop) == 1


@pytest.mark.parametrize("changed", ["source", "header", "flags"])
def test_library_is_built_again_when_something_changed(changed, workshop, monkeypatch):
    first = custom_ops._library("answer")
    if changed == "source":
        (workshop / "sources/answer.cpp").write_text(SOURCE.replace("42", "43"))
    elif changed == "header":
        (workshop / "sources/common.h").write_text("#pragma once\n")
    else:
        monkeypatch.setattr(custom_ops, "FLAGS", ("-O1",))
    assert custom_ops._library("answer") != first
    assert builds(workshop) == 2


def test_processes_that_start_together_build_once(workshop):
    libraries: list[Path] = []
    threads = [threading.Thread(target=lambda: libraries.append(custom_ops._library("answer"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(libraries) == 4
    assert len(set(libraries)) == 1
    assert builds(workshop) == 1


def test_what_a_killed_build_left_behind_is_no_obstacle(workshop):
    """A lock file without its process and half-written objects neither block nor get loaded."""
    library = custom_ops._library("answer")
    library.unlink()
    (library.parent / "build-1").mkdir()
    (library.parent / "build-1/answer.so").write_bytes(b"half a libr")
    assert (library.parent / "build.lock").exists()
    assert resolve_backend("cpu", "answer", "cpu", lambda: None) == "cpu"


def no_compiler(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")


def broken_compiler(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "false")


def no_ninja(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(workshop))
    monkeypatch.setattr(sys, "executable", str(workshop / "python"))


def broken_source(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workshop / "sources/answer.cpp").write_text("int answer( { no }\n")


def unusable_cache(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workshop / "file").touch()
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(workshop / "file"))


FAILURES = {
    "no compiler": (no_compiler, "no C\\+\\+ compiler: no-such-compiler cannot be started .* apt install g\\+\\+"),
    "broken compiler": (broken_compiler, "the compiler false does not work; set CXX"),
    "no ninja": (no_ninja, "ninja cannot be started .*pip install ninja"),
    "broken source": (broken_source, "(?s)failed; all of its output is in .*build.log.*answer.cpp:1"),
    "unusable cache": (unusable_cache, "file.*Set TORCH_EXTENSIONS_DIR to a folder that can be written to"),
}


@pytest.mark.parametrize(("spoil", "message"), FAILURES.values(), ids=FAILURES.keys())
def test_failure_says_why_and_what_to_do(spoil, message, workshop, monkeypatch):
    """An explicit backend raises; "auto" warns with the same reason and takes the reference."""
    spoil(workshop, monkeypatch)
    with pytest.raises(BackendError, match=message):
        resolve_backend("cpu", "answer", "cpu", lambda: None)
    with pytest.warns(RuntimeWarning, match=message):
        assert resolve_backend("auto", "answer", "cpu", lambda: None) == "ref"


def test_auto_warns_once(workshop, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(custom_ops, "_warn_once", functools.cache(custom_ops._warn_once))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for op in ("answer", "answer", "question"):
            assert resolve_backend("auto", op, "cpu", lambda: None) == "ref"
    assert len(caught) == 1


def test_other_devices_take_the_reference_with_a_warning(workshop):
    with pytest.warns(RuntimeWarning, match="answer: there is no cuda kernel"):
        assert resolve_backend("auto", "answer", "cuda", lambda: None) == "ref"
    with pytest.raises(BackendError, match="tensors on cuda; move them to the CPU"):
        resolve_backend("cpu", "answer", "cuda", lambda: None)
    assert builds(workshop) == 0


def test_unknown_backend_is_an_error():
    with pytest.raises(ValueError, match="answer: backend='gpu', expected 'auto'"):
        resolve_backend("gpu", "answer", "cpu", lambda: None)  # type: ignore[arg-type]
