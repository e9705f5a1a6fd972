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
    """Of four faces it misses one, and sees somebody in the background of another; all points are too far to the right by two pixels."""

    def __init__(self, expected: torch.Tensor) -> None:
        self.expected, self.calls = expected.double().numpy(), 0

    def find(self, image: np.ndarray) -> list[np.ndarray]:
        assert image.shape == (64, 64, 3)
        assert image.dtype == np.uint8
        points, self.calls = self.expected[self.calls], self.calls + 1
        face = np.column_stack([points[:, 0] + 2, points[:, 1], points[:, 0]])
        return ([face], [points + 40, face], [], [face])[self.calls % 4]


def test_errors_are_those_of_the_nearer_face_and_faces_are_counted(avatar_context, truth, monkeypatch):
    scenes = natural_scenes(avatar_context)[:4]
    expected = face_mesh.dense_pixels(truth.head, scenes.moving, scenes.camera, 64)
    assert expected.shape == (4, 478, 2)
    inside = ((expected > 0) & (expected < 64)).double().mean()
    assert inside > 0.95
    errors, faces = face_mesh.mesh_findings(Finder(expected), truth(scenes), expected).float().unbind(dim=1)
    torch.testing.assert_close(errors, torch.tensor([2.0, torch.nan, 2.0, 2.0]), equal_nan=True)
    assert faces.tolist() == [2, 0, 1, 1]

    rows = avatar_context.dataset.conditions(range(280, 360))
    every = torch.cat([expected, face_mesh.dense_pixels(truth.head, rows[1], rows[0], 64)])

    @contextmanager
    def finder() -> Iterator[Finder]:
        yield Finder(every)

    monkeypatch.setattr(face_mesh, "open_face_mesh", finder)
    kept = {**avatar_context._kept, "avatar: scenes": scenes}
    kept.pop("avatar: pictures", None)
    found, one, distance = face_mesh.measure(replace(avatar_context, truncation=0.7, _kept=kept))
    assert (found.name, found.value, found.count, found.floor) == ("mesh478_found", 0.75, 4, 0.75)
    assert (one.name, one.value, one.count, one.floor) == ("mesh478_one", 0.5, 4, 0.5)
    assert one.low < 0.5 < one.high
    assert "truncation 0.7" in one.note
    assert distance.count == 3
    assert distance.value == pytest.approx(distance.floor, rel=0.2)
