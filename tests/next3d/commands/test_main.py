"""The roof: lazy, and every mistake is one line and an exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from dnnlib.errors import DatasetError, UserError
from next3d.commands.main import COMMANDS, run_command


def failing(error: BaseException) -> click.Command:
    @click.command("fails")
    @click.option("--count", type=int, default=1)
    def fails(count: int) -> None:
        raise error

    return fails


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("a.zip: is cut off; download it again."), 2, "Error: a.zip: is cut off; download it again.\n"),
        (DatasetError("no labels"), 2, "Error: no labels\n"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (PermissionError(13, "Permission denied", "/root/x"), 2, "/root/x: Permission denied"),
        (OSError(28, "No space left on device", "out.mp4"), 2, "out.mp4: No space left on device"),
    ],
    ids=["user error", "subclass", "interrupted", "permission", "disk full"],
)
def test_mistakes_are_one_line_and_an_exit_code(capsys: pytest.CaptureFixture[str], error: BaseException, code: int, message: str):
    assert run_command(failing(error), []) == code
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert printed.out == ""


def test_bugs_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run_command(failing(ZeroDivisionError()), [])


def test_wrong_options_are_one_line(capsys: pytest.CaptureFixture[str]):
    assert run_command(failing(RuntimeError()), ["--count", "many"], name="fails") == 2
    assert capsys.readouterr().err == "Error: Invalid value for '--count': 'many' is not a valid integer. See 'fails --help'.\n"


def test_success_and_the_commands_own_code_are_returned():
    assert run_command(click.Command("ok", callback=lambda: None), []) == 0
    assert run_command(click.Command("found", callback=lambda: 2), []) == 2


def run_next3d(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "next3d", *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def test_help_lists_every_command(repository: Path):
    done = run_next3d("--help", cwd=repository)
    assert done.returncode == 0
    for name in COMMANDS:
        assert f"  {name} " in done.stdout


def test_no_command_shows_the_help_and_an_unknown_one_is_named(repository: Path):
    nothing = run_next3d(cwd=repository)
    assert nothing.returncode == 2
    assert "Commands:" in nothing.stderr
    unknown = run_next3d("dance", cwd=repository)
    assert (unknown.returncode, unknown.stderr) == (2, "Error: No such command 'dance'. See 'next3d --help'.\n")


def test_a_reader_that_goes_away_is_no_error_of_ours(repository: Path):
    code = (
        "from next3d.commands.main import run_command; import click, sys\n"
        "def talk():\n    while True: click.echo('line ' * 1000)\n"
        "sys.exit(run_command(click.Command('talk', callback=talk), []))"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as talker:
        assert talker.stdout is not None
        assert talker.stderr is not None
        talker.stdout.read(10)
        talker.stdout.close()
        assert talker.stderr.read() == b""
        assert talker.wait(timeout=30) == 1


@pytest.mark.parametrize("script", ["train.py", "gen_videos.py"])
def test_the_doors_open(repository: Path, tmp_path: Path, script: str):
    done = subprocess.run([sys.executable, repository / script, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"Usage: {script} " in done.stdout
