"""The documentation and the program say the same."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from next3d.commands.data import COMMANDS as DATA_COMMANDS
from next3d.commands.main import COMMANDS, load_command
from next3d.commands.state import state
from next3d.media.motions import MOTIONS

LEAVES = {name: target for name, (target, _) in COMMANDS.items() if name not in ("data", "state")}
LEAVES |= {f"data {name}": target for name, (target, _) in DATA_COMMANDS.items()}
LEAVES |= {f"state {name}": f"next3d.commands.state:{name}" for name in state.commands}


@pytest.fixture(scope="module")
def sections(repository: Path) -> dict[str, str]:
    """Command → its section of docs/commands.md."""
    parts = re.split(r"^## next3d (.*)$", (repository / "docs" / "commands.md").read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("name", LEAVES)
def test_every_option_is_documented_and_every_documented_option_exists(sections: dict[str, str], name: str):
    command = load_command(LEAVES[name])
    options = [set(p.opts) for p in command.params if isinstance(p, click.Option)]
    documented = set(re.findall(r"`(--[a-z0-9-]+)` (?=\|)", "\n".join(re.findall(r"^\| .*$", sections[name], flags=re.MULTILINE))))
    known = set().union(*options)
    assert documented - known - {"--motion"} == set()
    missing = [sorted(spellings) for spellings in options if not spellings & documented]
    assert not missing


def test_every_motion_is_documented(sections: dict[str, str]):
    for name in MOTIONS:
        assert f"| `{name}` |" in sections["videos"]


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md", "docs/commands.md", "docs/install.md"])
def test_links_lead_somewhere(repository: Path, page: str):
    file = repository / page
    targets = [t for t in re.findall(r"\]\(([^)#]+)\)", file.read_text()) if "://" not in t]
    assert [t for t in targets if not (file.parent / t).exists()] == []


def test_modules_that_the_architecture_names_exist(repository: Path):
    text = (repository / "docs" / "architecture.md").read_text().partition("Rooms for what comes later")
    later = re.findall(r"`((?:next3d|inversion|stylization)/[\w/.]*)`", text[2].partition("## Data flow")[0])
    named = set(re.findall(r"`((?:next3d|dnnlib|torch_utils|training|tests)/[\w/.]+)`", text[0] + text[2])) - set(later)
    assert named
    assert [name for name in sorted(named) if not (repository / name).exists()] == []
