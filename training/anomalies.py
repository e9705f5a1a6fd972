"""Steps whose losses or gradients were not finite: they changed nothing, they are written down, and too many of them end a run."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dnnlib.errors import UserError, WriteError
from dnnlib.files import AppendFile
from training.trainer import SkippedStep

WINDOW = 1000
"""Skipped steps are counted over so many of the last steps: a rare one a day is no reason to stop, every tenth is."""
SKIPPED_STEPS = "skipped-steps.jsonl"


class Anomalies:
    """Judges the skipped steps of a run. Every process hears of the same ones; the one with a folder writes them down.

    Args:
        limit: the most skipped steps among the last `WINDOW`.
        name: what an item of the data set is called.
        folder: where `skipped-steps.jsonl` goes; None writes nothing.
        say: receives lines for people.
    """

    def __init__(self, limit: int, name: Callable[[int], str], folder: Path | None, say: Callable[[str], None]) -> None:
        self.limit, self.total = limit, 0
        self._name, self._folder, self._say = name, folder, say
        self._recent: deque[int] = deque()

    def judge(self, skipped: Sequence[SkippedStep], last_good: Path | None) -> None:
        """Count, report and write down the steps that were skipped since the last call.

        Args:
            skipped: in order.
            last_good: the newest resume state, for the message.

        Raises:
            UserError: there are more than the limit.
        """
        if not skipped:
            return
        self.total += len(skipped)
        self._recent.extend(step.step for step in skipped)
        while self._recent[0] <= self._recent[-1] - WINDOW:
            self._recent.popleft()
        self._write(skipped)
        first = skipped[0]
        self._say(f"Steps skipped: {len(skipped)}, from step {first.step} on: {_reason(first)}. Their samples are in {SKIPPED_STEPS}.")
        if len(self._recent) > self.limit:
            advice = "start again" if last_good is None else f"resume from {last_good}"
            raise UserError(
                f"training: {len(self._recent)} of the last {WINDOW} steps were skipped because {_reason(first)}, more than "
                f"--max-skipped {self.limit}; {advice} with a lower --glr and --dlr or a higher --gamma."
            )

    def _write(self, skipped: Iterable[SkippedStep]) -> None:
        if self._folder is None:
            return
        try:
            with closing(AppendFile(self._folder / SKIPPED_STEPS)) as file:
                for step in skipped:
                    file.append(json.dumps(self._described(step)).encode() + b"\n")
        except WriteError as error:
            self._say(str(error))

    def _described(self, step: SkippedStep) -> dict[str, Any]:
        """JSON has no NaN; such losses are written as texts."""
        losses = {name: value if math.isfinite(value) else str(value) for name, value in step.losses.items()}
        return asdict(step) | {"losses": losses, "names": [self._name(item) for item in step.items]}


def _reason(step: SkippedStep) -> str:
    bad = [name for name, value in step.losses.items() if not math.isfinite(value)]
    return f"{bad[0]} was not a finite number" if bad else "gradients were not finite numbers"
