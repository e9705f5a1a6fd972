"""The metrics that exist: names, what each needs, and where it is computed. Names are known without importing any of them.

A metric is a function `measure(context) -> list[Figure]`. What several metrics use (images, features, fitted readers) lives in the
`Context`, so that it is made once. Adding one: write the function, add a line to `METRICS`, describe it in docs/metrics.md.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dnnlib.errors import ConfigError

if TYPE_CHECKING:
    from training.metrics.context import Context
    from training.metrics.figures import Figure

Need = Literal["detector", "heads", "generator", "face_mesh", "face_recognition"]
"""What a metric may ask of a context: weights of a feature detector; heads as parameters of a model that the program has; the network
itself and not only its pictures; MediaPipe, and pictures that are large enough for it;
a face-recognition network that can be read, if one was named. `Context.lacks` says whether it is there."""
SUITE_NAMES = ("distribution", "avatar", "all")


@dataclass(frozen=True)
class Metric:
    """One entry of the catalogue."""

    name: str
    summary: str
    """A line for people."""
    suite: str
    """`distribution`: are the pictures as varied and real as photos? `avatar`: does the head do what it is told?"""
    target: str
    """`package.module:function`; the function takes a `Context` and returns its figures, the same on every rank."""
    needs: tuple[Need, ...] = ()

    def measure(self, context: Context) -> list[Figure]:
        """Compute its figures.

        Raises:
            UserError: the data set, a file or a setting does not serve.
        """
        module, _, function = self.target.partition(":")
        figures: list[Figure] = getattr(importlib.import_module(module), function)(context)
        return figures


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        # Metrics that keep pictures come first: those that only look at features then use them again.
        Metric("swd", "sliced Wasserstein distance; needs no network", "distribution", "training.metrics.swd_figures:measure"),
        Metric("fid", "Fréchet inception distance", "distribution", "training.metrics.fid:measure", ("detector",)),
        Metric("kid", "kernel inception distance", "distribution", "training.metrics.kid:measure", ("detector",)),
        Metric("pr", "improved precision and recall", "distribution", "training.metrics.precision_recall:measure", ("detector",)),
        Metric("aed", "average expression distance", "avatar", "training.metrics.obedience:measure_expression", ("heads",)),
        Metric("apd", "average head-pose distance", "avatar", "training.metrics.obedience:measure_pose", ("heads",)),
        Metric("akd", "average keypoint distance", "avatar", "training.metrics.obedience:measure_landmarks", ("heads",)),
        Metric("mesh478", "478 landmarks by MediaPipe", "avatar", "training.metrics.face_mesh:measure", ("heads", "face_mesh")),
        Metric("gaze", "gaze error", "avatar", "training.metrics.obedience:measure_gaze", ("heads",)),
        Metric(
            "response", "jaw, gaze, lids and smile: commanded and read", "avatar", "training.metrics.obedience:measure_response", ("heads",)
        ),
        Metric("unseen", "the same where jaw and gaze are at their extremes", "avatar", "training.metrics.unseen:measure", ("heads",)),
        Metric("id", "identity over expressions and views", "avatar", "training.metrics.identity:measure", ("heads", "face_recognition")),
        Metric("views", "multi-view consistency", "avatar", "training.metrics.views:measure_views", ("heads", "generator")),
        Metric("depth", "depth error against the mesh", "avatar", "training.metrics.views:measure_depth", ("heads", "generator")),
    )
}


def choose(names: Sequence[str]) -> list[Metric]:
    """Metrics by name, in the order of the catalogue, each once.

    Raises:
        ConfigError: a name that does not exist.
    """
    if unknown := [name for name in names if name not in METRICS]:
        raise ConfigError(f"unknown metric {unknown[0]!r}; choose from {', '.join(METRICS)}.")
    return [metric for name, metric in METRICS.items() if name in names]


def suite(name: str) -> list[Metric]:
    """The metrics of a suite; `all` is every one.

    Raises:
        ConfigError: there is no such suite.
    """
    if name not in SUITE_NAMES:
        raise ConfigError(f"unknown suite {name!r}; choose from {', '.join(SUITE_NAMES)}.")
    return [metric for metric in METRICS.values() if name in ("all", metric.suite)]


def check(metrics: Sequence[Metric], context: Context, *, skip: bool = False) -> list[Metric]:
    """The metrics whose needs are met; arguments and errors as those of `measure`."""
    possible = []
    for metric in metrics:
        missing = next((sentence for need in metric.needs if (sentence := context.lacks(need)) is not None), None)
        if missing is None:
            possible.append(metric)
        elif skip:
            context.say(f"Left out: {metric.name} ({metric.summary}): {missing}")
        else:
            raise ConfigError(f"metric {metric.name!r}: {missing}")
    return possible


def measure(
    metrics: Sequence[Metric], context: Context, *, skip: bool = False, found: Callable[[list[Figure]], None] = lambda figures: None
) -> list[Figure]:
    """All figures of some metrics. Needs are checked before anything is computed.

    Args:
        metrics: what `choose` or `suite` returned.
        context: the network, the data, and what metrics share.
        skip: leave out metrics whose needs are not met and say so; otherwise that is an error.
        found: receives all figures so far whenever a metric is done.

    Raises:
        UserError: a need is not met, or a metric finds something that does not serve.
    """
    figures: list[Figure] = []
    for metric in check(metrics, context, skip=skip):
        context.say(f"Measuring {metric.name}: {metric.summary}")
        figures += metric.measure(context)
        found(figures)
    return figures
