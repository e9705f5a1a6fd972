"""Metrics that are computed with every snapshot: those of the catalogue, on fewer images, and what was made of real images is kept."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from next3d.generator import Generator
from training.config import TrainConfig
from training.dataset import PortraitDataset
from training.metrics.catalog import check, choose, measure
from training.metrics.context import Context, MetricSettings
from training.metrics.scenes import Scenes, generator_sampler


@dataclass
class SnapshotMetrics:
    """What `--metrics` asks for. Every rank makes one and calls `measure` together with the others; each computes its share."""

    dataset: PortraitDataset
    config: TrainConfig
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Where feature detectors compute."""
    _context: Context | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check that everything is there.

        Raises:
            UserError: a metric lacks something; better to say so before the training than at its first snapshot.
        """
        if not self.config.run.metrics:
            return
        model = self.config.model.generator
        self._context = Context(_nothing, model.latent_size, self.dataset, self._settings(), self.device)
        # Whether there is a network is not in question here, only what it would be measured with.
        check([metric for metric in choose(self.config.run.metrics) if "generator" not in metric.needs], self._context)

    def measure(self, generator: Generator) -> dict[str, float]:
        """Figures by name, `metrics/…`, the same on every rank; empty if none are asked for. What has no value yet is left out."""
        if self._context is None:
            return {}
        self._context.test_another(generator_sampler(generator, self.dataset.pose, batch=self._context.settings.batch), generator)
        figures = measure(choose(self.config.run.metrics), self._context)
        return {f"metrics/{figure.name}": figure.value for figure in figures if math.isfinite(figure.value)}

    def _settings(self) -> MetricSettings:
        run, count = self.config.run, len(self.dataset)
        return MetricSettings(
            images=run.metrics_images,
            people=min(run.metrics_images, 200),
            holdout=max(4, min(500, count // 5)),  # of the images of the training: regressors, not the network, must not have seen them
            seed=run.seed,
            batch=run.part,
            detector=None if run.detector_path is None else Path(run.detector_path),
            intervals=False,
        )


def _nothing(scenes: Scenes) -> Tensor:
    raise RuntimeError("no network is under test yet")
