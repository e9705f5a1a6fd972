"""The command line `next3d …`: finds the sub-command, runs it, and turns what goes wrong into one line and an exit code.

Sub-commands are imported only when they are asked for, so that `next3d --help` is quick and a damaged or missing optional package
stops only the command that needs it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from dnnlib.errors import LostProcessError, UserError
from next3d.version import VERSION

EXIT_LOST_PROCESS = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
CONTEXT_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 120}

COMMANDS = {
    "train": ("next3d.commands.train:train", "Train a generator on a data set."),
    "data": ("next3d.commands.data:data", "Make, check and convert data sets."),
    "samples": ("next3d.commands.samples:samples", "Write images, depth and shapes of generated heads."),
    "videos": ("next3d.commands.videos:videos", "Write videos of generated heads that move."),
    "showcase": ("next3d.commands.showcase:showcase", "Write the pictures with which a network introduces itself."),
    "metrics": ("next3d.commands.metrics:metrics", "How good a network is, in figures."),
    "convert": ("next3d.commands.convert:convert", "Published EG3D and Next3D networks to files that run nothing."),
    "state": ("next3d.commands.state:state", "Resume states in small files that travel, and back."),
    "demo": ("next3d.commands.demo:demo", "Data, training and videos in one go, on a laptop."),
}
"""Name → where the click command lives, and the line that `next3d --help` shows for it."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they run; the help text needs none of them."""

    def __init__(self, *args: Any, lazy: dict[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order in which they are used."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; None where there is none of that name."""
        if cmd_name not in self.lazy:
            return None
        return load_command(self.lazy[cmd_name][0])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, from the table instead of from the commands themselves."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in self.lazy.items()])


def load_command(target: str) -> click.Command:
    """Import a click command given as `package.module:name`."""
    module, _, name = target.partition(":")
    command = getattr(importlib.import_module(module), name)
    if not isinstance(command, click.Command):
        raise TypeError(f"{target} is a {type(command).__name__}, expected a click command")
    return command


@click.group(cls=LazyGroup, lazy=COMMANDS)
@click.version_option(VERSION, prog_name="next3d")
def root() -> None:
    """Animatable 3D heads, generated.

    \b
    Examples:
      next3d demo --out out
      next3d data synthetic --num 4000 --resolution 64 --seed 0 --out data.zip
      next3d train --outdir runs --cfg demo-64 --data data.zip --gpus 1 --batch 16 --gamma 1 --kimg 10
      next3d videos --network runs/00000/network-000010.safetensors --seeds 0-3 --grid 2x2 --motion gaze --out gaze.mp4
    """


def run_command(command: click.Command, arguments: Sequence[str] | None = None, *, name: str | None = None) -> int:
    """Run a click command and return its exit code: 0 done, 1 a process of several is lost, 2 bad input, 130 interrupted.

    Bad input is one line on stderr that begins with `Error:`. Anything unforeseen keeps its traceback and ends the process with 1;
    so does, quietly, a reader of our output that goes away (click sees to that).
    """
    try:
        arguments = None if arguments is None else list(arguments)
        result = command.main(arguments, prog_name=name, standalone_mode=False, **CONTEXT_SETTINGS)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _complain("interrupted.", EXIT_INTERRUPTED)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return EXIT_USER_ERROR
    except click.ClickException as error:
        return _complain(_sentence(error), EXIT_USER_ERROR)
    except UserError as error:
        return _complain(str(error), EXIT_USER_ERROR)
    except LostProcessError as error:
        return _complain(str(error), EXIT_LOST_PROCESS)
    except OSError as error:
        if error.filename is None:
            raise
        return _complain(f"{error.filename}: {error.strerror}; check the path, its permissions and the space left.", EXIT_USER_ERROR)
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


def _sentence(error: click.ClickException) -> str:
    """Click's message on one line, and where to read on."""
    message = " ".join(error.format_message().split())
    if isinstance(error, click.UsageError) and error.ctx is not None:
        message = f"{message.rstrip('.')}. See '{error.ctx.command_path} --help'."
    return message


def _complain(message: str, code: int) -> int:
    click.echo(f"Error: {message}", err=True)
    return code


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the `next3d` command and of `python -m next3d`."""
    sys.exit(run_command(root, arguments, name="next3d"))


def main_of(target: str, name: str) -> None:
    """Entry point of a script that stands for one sub-command; `target` is `package.module:name`."""
    sys.exit(run_command(load_command(target), name=name))
