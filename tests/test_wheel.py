"""The wheel is complete: installed elsewhere, it works from any folder."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

SOURCE_SUFFIXES = {".cpp", ".cu", ".cuh", ".h"}


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a program; its output, or a failure that shows it."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources so that nothing is left in the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "source"
    packages = [
        name for name in ("dnnlib", "torch_utils", "next3d", "training", "inversion", "stylization") if (repository / name).is_dir()
    ]
    for name in (*packages, "bench", "tests", "states"):
        for file in (repository / name).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                target = copy / file.relative_to(repository)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (copy / name).write_bytes((repository / name).read_bytes())
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, copy)
    (built,) = folder.glob("next3d-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts folder of a virtual environment with the wheel; other packages are borrowed from this one, nothing is downloaded."""
    venv = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", venv)
    scripts = venv / ("Scripts" if os.name == "nt" else "bin")
    purelib = Path(sysconfig.get_path("purelib", vars={"base": str(venv), "platbase": str(venv)}))
    # Last on the path, and not through `site`, so that an editable install of this repository is not borrowed along with the rest.
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()}
    (purelib / "borrowed.pth").write_text("\n".join(sorted(borrowed)))
    run(scripts / "python", "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--force-reinstall", wheel)
    return scripts


def test_the_wheel_holds_sources_and_assets_but_no_tests_or_benchmarks(wheel: Path, repository: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    packages = ("dnnlib", "torch_utils", "next3d", "training")
    wanted = [f for p in packages for f in (repository / p).rglob("*") if f.is_file() and "__pycache__" not in f.parts]
    missing = sorted(str(f.relative_to(repository)) for f in wanted if str(f.relative_to(repository)) not in names)
    assert not missing
    assert any(Path(name).suffix in SOURCE_SUFFIXES for name in names)
    assert not [name for name in names if name.split("/")[0] in ("tests", "bench", "docs", "states")]


@pytest.mark.slow
def test_samples_run_from_a_foreign_folder(installed: Path, tmp_path: Path, network_file: Path):
    """Folders named like our packages, in the folder where the command is started, do not disturb it."""
    for name in ("training", "torch_utils", "dnnlib", "next3d"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('the wrong package was imported')\n")
    out = tmp_path / "out"
    run(installed / "next3d", "samples", "--network", network_file, "--seeds", "0-1", "--outdir", out, "--threads", "1", cwd=tmp_path)
    assert sorted(path.name for path in out.iterdir()) == ["seed0000.png", "seed0001.png"]
    code = "import next3d, training, torch_utils; print(next3d.__file__)"
    where = run(installed / "python", "-P", "-c", code, cwd=tmp_path) if sys.version_info >= (3, 11) else str(installed)
    assert str(installed.parent) in where
