"""MediaPipe's figure: who finds the points where they are has no error, who finds no face is counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

import training.metrics.face_mesh as face_mesh
from training.metrics.readings import natural_scenes


class Finder:
    """Finds every other face, all points too far to the right by two pixels, and somebody in the background."""

    def __init__(self, expected: torch.Tensor) -> None:
        self.expected, self.calls = expected.double().numpy(), 0

    def find(self, image: np.ndarray) -> list[np.ndarray]:
        assert image.shape == (64, 64, 3)
        assert image.dtype == np.uint8
        points, self.calls = self.expected[self.calls], self.calls + 1
        if self.calls % 2 == 0:
            return []
        return [points + 40, np.column_stack([points[:, 0] + 2, points[:, 1], points[:, 0]])]


def test_errors_are_those_of_the_nearer_face(avatar_context, truth, monkeypatch):
    scenes = natural_scenes(avatar_context)[:4]
    expected = face_mesh.dense_pixels(truth.head, scenes.moving, scenes.camera, 64)
    assert expected.shape == (4, 478, 2)
    inside = ((expected > 0) & (expected < 64)).double().mean()
    assert inside > 0.95
    errors = face_mesh.mesh_errors(Finder(expected), truth(scenes), expected)
    torch.testing.assert_close(errors.float(), torch.tensor([2.0, torch.nan, 2.0, torch.nan]), equal_nan=True)

    rows = avatar_context.dataset.conditions(range(280, 360))
    every = torch.cat([expected, face_mesh.dense_pixels(truth.head, rows[1], rows[0], 64)])

    @contextmanager
    def finder() -> Iterator[Finder]:
        yield Finder(every)

    monkeypatch.setattr(face_mesh, "open_face_mesh", finder)
    kept = {**avatar_context._kept, "avatar: scenes": scenes}
    found, distance = face_mesh.measure(replace(avatar_context, _kept=kept))
    assert (found.value, found.count, found.floor) == (0.5, 4, 0.5)
    assert distance.count == 2
    assert distance.value == pytest.approx(distance.floor, rel=0.2)
