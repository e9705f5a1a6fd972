"""Running commands in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from next3d.commands.main import root, run_command


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Run `next3d` in this process; its exit code and what it printed on stderr."""
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)

    def run_next3d(*arguments: str | Path) -> tuple[int, str]:
        code = run_command(root, [str(argument) for argument in arguments], name="next3d")
        return code, capsys.readouterr().err

    return run_next3d
