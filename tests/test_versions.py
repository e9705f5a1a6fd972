"""The files that name versions agree: pyproject.toml says what works, constraints.txt what is installed, the others follow them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib  # type: ignore[import-not-found, no-redef]

MAKE_EXTRAS = ("portraits", "shards", "ray", "dev")
PYTHONS = ("3.10", "3.11", "3.12")


@pytest.fixture(scope="module")
def project(repository: Path) -> dict[str, object]:
    return tomllib.loads((repository / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def requirements(project: dict) -> list[Requirement]:
    """What `make` asks for."""
    extras = [text for extra in MAKE_EXTRAS for text in project["optional-dependencies"][extra]]
    return [Requirement(text) for text in [*project["dependencies"], *extras]]


def pins(repository: Path, python: str) -> dict[str, Version]:
    """Package → version in constraints.txt for one Python."""
    environment = {**default_environment(), "python_version": python, "python_full_version": f"{python}.0"}
    found: dict[str, Version] = {}
    for line in (repository / "constraints.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pin = Requirement(line)
        if pin.marker is None or pin.marker.evaluate(environment):
            name = canonicalize_name(pin.name)
            assert name not in found, f"{name} is pinned twice for Python {python}"
            (specifier,) = pin.specifier
            assert specifier.operator == "==", line
            found[name] = Version(specifier.version)
    return found


@pytest.mark.parametrize("python", PYTHONS)
def test_every_requirement_has_a_pin_that_satisfies_it(repository: Path, requirements: list[Requirement], python: str):
    pinned = pins(repository, python)
    for requirement in requirements:
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"{name} is not in constraints.txt"
        assert requirement.specifier.contains(pinned[name]), (
            f"{name} {pinned[name]} is pinned, pyproject.toml wants {requirement.specifier}"
        )


def test_torch_is_the_version_that_the_readme_names(repository: Path):
    assert pins(repository, "3.11")["torch"] == Version("2.13.0")


def test_python_versions_agree(repository: Path, project: dict):
    supported = SpecifierSet(project["requires-python"])
    for python in PYTHONS:
        assert python in supported
    for python in ("3.9", "3.13"):
        assert python not in supported
    conda = re.search(r"python=([\d.]+)", (repository / "environment.yml").read_text())
    docker = re.search(r"FROM python:([\d.]+)-slim", (repository / "docker" / "Dockerfile").read_text())
    assert conda is not None
    assert docker is not None
    assert conda[1] == docker[1]
    assert conda[1] in supported


def test_conda_and_docker_install_the_pinned_versions(repository: Path):
    assert "-c constraints.txt" in (repository / "environment.yml").read_text()
    assert "-c constraints.txt" in (repository / "docker" / "Dockerfile").read_text()
    assert "-c constraints.txt" in (repository / "Makefile").read_text()


@pytest.mark.parametrize("name", ["environment.yml", "docker/Dockerfile", "Makefile"])
def test_no_second_place_names_package_versions(repository: Path, name: str):
    """Versions in these files would have to be kept equal by hand; they must come from constraints.txt."""
    assert not re.findall(r"\b(?:torch|numpy|mediapipe)\s*[=<>]=", (repository / name).read_text())
