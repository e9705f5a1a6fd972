"""Backends of the accelerated ops: which one runs, and how the C++ ones are built on first use.

The sources of op NAME are torch_utils/ops/csrc/NAME.cpp and the headers beside it. They register themselves through TORCH_LIBRARY, so
Python.h is not needed. A build is kept in $TORCH_EXTENSIONS_DIR (default: ~/.cache/torch_extensions) under a hash of sources, flags,
compiler, processor type and torch version: whatever changes, nothing stale is loaded.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import shlex
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

import torch

Backend = Literal["auto", "ref", "cpu", "cuda", "nvdiffrast"]
"""What callers may ask for: the plain PyTorch reference, C++ on the CPU, our CUDA kernels, nvdiffrast, or the best that is there."""

SOURCES = Path(__file__).parent / "ops" / "csrc"
FLAGS = ("-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-Wall")
"""No fused multiply-add behind our backs: results must not depend on what the compiler found worth fusing."""
NATIVE = "-march=native"
HINT = "PyTorch's own operators are used instead, which is slower."
OUTPUT_LINES = 15
"""How much of a failed compiler's output an error message shows; the whole of it stays beside the build."""


class BackendError(RuntimeError):
    """A backend that was asked for by name is not there; says why and what to do."""


def resolve_backend(backend: Backend, op: str, device: str, register: Callable[[], None]) -> Literal["ref", "cpu"]:
    """Choose the backend that runs an op, and build and load it if need be.

    Wrap it in a function marked `torch.compiler.assume_constant_result` to call it from compiled code.

    Args:
        backend: what the caller asked for.
        op: name of the op and of its source file.
        device: type of the tensors' device: "cpu", "cuda", ...
        register: called once after the C++ library was loaded: adds fake kernel, autograd and FLOP formula.

    Raises:
        BackendError: an explicit backend is not there; "auto" warns once instead and takes the reference.
        ValueError: no such backend.
    """
    if backend == "ref":
        return "ref"
    if backend in ("cuda", "nvdiffrast"):
        raise BackendError(f"{op}: there is no {backend!r} backend in this version; use backend='auto' or 'ref', which run on any device.")
    if backend not in ("auto", "cpu"):
        raise ValueError(f"{op}: backend={backend!r}, expected 'auto', 'ref', 'cpu', 'cuda' or 'nvdiffrast'")
    if device not in ("cpu", "meta"):
        if backend == "cpu":
            raise BackendError(f"{op}: backend='cpu' was asked for tensors on {device}; move them to the CPU or use backend='auto'.")
        _warn_once(f"{op}: there is no {device} kernel in this version. {HINT}")
        return "ref"
    problem = _load(op, register)
    if problem is None:
        return "cpu"
    if backend == "cpu":
        raise BackendError(f"{op}: the C++ backend is not there: {problem}")
    _warn_once(f"the C++ operators could not be built: {problem} {HINT}")
    return "ref"


@functools.cache
def _warn_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)


@functools.cache
def _load(op: str, register: Callable[[], None]) -> str | None:
    """Build (where it is missing) and load the library of `op`; says what went wrong, or None. Tried once per process."""
    try:
        torch.ops.load_library(str(_library(op)))
    except (_BuildProblem, OSError) as error:
        return str(error)
    register()
    return None


def _library(op: str) -> Path:
    """The compiled library of `op`, built if it is not there."""
    compiler = _Compiler()
    folder = _cache_root() / f"next3d_{op}_{_fingerprint(op, compiler)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / "build.lock"):
            library = folder / f"{op}.so"
            if not library.exists():
                logging.getLogger(__name__).info("Building the C++ operator %s; this happens once.", op)
                with tempfile.TemporaryDirectory(dir=folder, prefix="build-") as work:
                    os.replace(_build(op, compiler, Path(work)), library)
        return library
    except OSError as error:
        raise _BuildProblem(f"{error}. Set TORCH_EXTENSIONS_DIR to a folder that can be written to.") from error


class _BuildProblem(Exception):
    """Why there is no library, in words for the person who reads it."""


class _Compiler:
    """The C++ compiler of $CXX (default: c++), its flags, and what it says about itself and this processor."""

    def __init__(self) -> None:
        self.command = shlex.split(os.environ.get("CXX", "c++"))
        self.flags = [*FLAGS, "-fopenmp"] if sys.platform.startswith("linux") else list(FLAGS)
        native = self._macros(NATIVE)
        if native is not None:
            self.flags.append(NATIVE)
        macros = native if native is not None else self._macros()
        if macros is None:
            raise _BuildProblem(f"the compiler {shlex.join(self.command)} does not work; set CXX to a C++17 compiler that does.")
        self.identity = macros

    def _macros(self, *flags: str) -> str | None:
        """All predefined macros: version, target and instruction sets; None if the compiler does not take the flags."""
        try:
            result = subprocess.run(
                [*self.command, *flags, "-dM", "-E", "-x", "c++", os.devnull], capture_output=True, text=True, check=False
            )
        except OSError as error:
            raise _BuildProblem(
                f"no C++ compiler: {shlex.join(self.command)} cannot be started ({error.strerror}). Install one "
                "(Debian, Ubuntu: apt install g++; conda: conda install cxx-compiler; macOS: xcode-select --install) or name it in CXX."
            ) from error
        return result.stdout if result.returncode == 0 else None


def _cache_root() -> Path:
    chosen = os.environ.get("TORCH_EXTENSIONS_DIR")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "torch_extensions"


def _fingerprint(op: str, compiler: _Compiler) -> str:
    """Hash of all that the compiled library depends on."""
    digest = hashlib.sha256()
    for part in (torch.__version__, sys.platform, *compiler.command, *compiler.flags, compiler.identity):
        digest.update(part.encode() + b"\0")
    for source in [SOURCES / f"{op}.cpp", *sorted(SOURCES.glob("*.h"))]:
        digest.update(source.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that other processes wait for; the system takes it back if we die, so it is never stale."""
    try:
        import fcntl
    except ImportError as error:
        raise _BuildProblem(f"it is built on Linux and macOS only, this is {sys.platform}.") from error
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(op: str, compiler: _Compiler, work: Path) -> Path:
    """Compile `op` with ninja in the empty folder `work` and return the library."""
    (work / "build.ninja").write_text(_ninja_file(op, compiler))
    log = work.parent / "build.log"
    with open(log, "w+") as output:
        if _run_ninja(work, output) != 0:
            output.seek(0)
            tail = "".join(output.readlines()[-OUTPUT_LINES:])
            raise _BuildProblem(f"{shlex.join(compiler.command)} failed; all of its output is in {log}, the end of it is:\n{tail}")
    return work / f"{op}.so"


def _run_ninja(work: Path, output: IO[str]) -> int:
    # A virtual environment's programs lie beside its interpreter, also when it was not activated.
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    try:
        return subprocess.run(
            ["ninja", "-v"], cwd=work, stdout=output, stderr=subprocess.STDOUT, check=False, env={**os.environ, "PATH": search}
        ).returncode
    except OSError as error:
        raise _BuildProblem(f"ninja cannot be started ({error.strerror}). Install it: pip install ninja") from error


def _ninja_file(op: str, compiler: _Compiler) -> str:
    root = Path(torch.__file__).parent
    compile_flags = [
        *("-std=c++20", "-fPIC", f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"),
        *(f"-I{SOURCES}", "-isystem", str(root / "include"), *compiler.flags),
    ]
    link_flags = ["-shared", *compiler.flags, f"-L{root / 'lib'}", "-lc10", "-ltorch_cpu"]
    return "\n".join(
        [
            "rule compile",
            f"  command = {_quote(compiler.command + compile_flags)} -c $in -o $out",
            "rule link",
            f"  command = {_quote(compiler.command)} $in {_quote(link_flags)} -o $out",
            f"build {op}.o: compile {_escape(str(SOURCES / op))}.cpp",
            f"build {op}.so: link {op}.o",
            "",
        ]
    )


def _quote(words: list[str]) -> str:
    """Words for the shell, in a ninja variable."""
    return shlex.join(words).replace("$", "$$")


def _escape(path: str) -> str:
    """A path in ninja's list of inputs."""
    for character in "$ :":
        path = path.replace(character, "$" + character)
    return path
