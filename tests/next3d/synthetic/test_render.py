"""Pictures and ground truth agree with each other and with what was commanded."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import fields, replace
from typing import get_args

import numpy as np
import pytest
import torch

from next3d.head.model import HeadModel, HeadParams, LinearHeadModel
from next3d.render.cameras import project
from next3d.synthetic.looks import HairStyle
from next3d.synthetic.portrait import Portrait, Segment
from next3d.synthetic.render import render_sample
from next3d.types import Camera
from tests.next3d.synthetic.conftest import SIZE, plain_look, posed
from torch_utils.ops.rasterize import rasterize

Portray = Callable[..., Portrait]


@pytest.fixture(scope="module")
def samples(head: HeadModel) -> list[Portrait]:
    return [render_sample(head, 0, index, SIZE) for index in range(6)]


def area(portrait: Portrait, *segments: Segment) -> int:
    return int(np.isin(portrait.segmentation, segments).sum())


def test_landmarks_are_the_projected_points(samples: list[Portrait]) -> None:
    for sample in samples:
        cam2world, focal = sample.label[:16].reshape(4, 4), sample.label[16]
        local = (sample.landmarks_3d - cam2world[:3, 3]) @ cam2world[:3, :3]
        expected = (local[:, :2] / local[:, 2:] * focal + 0.5) * SIZE
        np.testing.assert_allclose(sample.landmarks_2d, expected, atol=1e-3)


def test_landmarks_of_the_inner_face_lie_on_the_head(samples: list[Portrait]) -> None:
    for sample in samples:
        column, row = np.floor(sample.landmarks_2d[27:]).astype(int).T
        face = (Segment.SKIN, Segment.EYES, Segment.MOUTH, Segment.TEETH)
        assert np.isin(sample.segmentation[row, column], face).mean() > 0.95


def test_depth_at_the_nose_is_the_noses(samples: list[Portrait]) -> None:
    for sample in samples:
        cam2world = sample.label[:16].reshape(4, 4)
        column, row = np.floor(sample.landmarks_2d[30]).astype(int)
        depth = sample.depth[row, column]
        ray = np.array([column + 0.5, row + 0.5]) / SIZE - 0.5
        point = cam2world[:3, :3] @ np.append(ray / sample.label[16] * depth, depth) + cam2world[:3, 3]
        assert np.linalg.norm(point - sample.landmarks_3d[30]) < 0.015, "a pixel is 0.01 world units wide"


def test_the_stored_parameters_give_the_rendered_mesh(head: HeadModel, samples: list[Portrait]) -> None:
    for sample in samples:
        params = HeadParams(**{field.name: torch.from_numpy(sample.head[field.name])[None] for field in fields(HeadParams)})
        camera = Camera.from_label(torch.from_numpy(sample.label)[None])
        points = project(head(params).vertices, camera)
        depth = rasterize(points, head.topology.faces, (SIZE, SIZE), perspective=True).depth[0].numpy()
        inner = np.isin(sample.segmentation, (Segment.EYES, Segment.MOUTH, Segment.TEETH))
        assert inner.any()
        np.testing.assert_allclose(sample.depth[inner], depth[inner], atol=1e-5)


def test_depth_is_there_exactly_where_something_is(samples: list[Portrait]) -> None:
    for sample in samples:
        assert np.array_equal(sample.depth > 0, sample.segmentation != Segment.BACKGROUND)
        assert sample.depth[sample.depth > 0].min() > 2.2


def test_the_mouth_opens_with_the_jaw(head: HeadModel, portray: Portray) -> None:
    openings = [area(portray(posed(head, jaw=jaw)), Segment.MOUTH, Segment.TEETH) for jaw in (0.0, 0.12, 0.24, 0.35)]
    assert openings[0] < 8
    assert all(wider > narrower for narrower, wider in itertools.pairwise(openings))
    assert openings[-1] > 40, "an open mouth is plain to see at 64 x 64 pixels"


def test_an_open_mouth_is_dark(head: HeadModel, portray: Portray) -> None:
    portrait = portray(posed(head, jaw=0.35))
    brightness = portrait.image.mean(axis=2)
    mouth, skin = portrait.segmentation == Segment.MOUTH, portrait.segmentation == Segment.SKIN
    assert np.median(brightness[mouth]) < 0.5 * np.median(brightness[skin])


def iris_place(portrait: Portrait) -> np.ndarray:
    """Mean place (x, y) of dark points in the eyes, relative to the eyes' own middle, in pixels."""
    eyes = portrait.segmentation == Segment.EYES
    row, column = eyes.nonzero()
    places = np.stack([column, row], axis=1).astype(float)
    dark = np.clip(150.0 - portrait.image.mean(axis=2)[eyes], 0, None)
    return np.asarray((places * dark[:, None]).sum(axis=0) / dark.sum() - places.mean(axis=0))


def test_irises_follow_the_gaze(head: HeadModel, portray: Portray) -> None:
    ahead, left, right, down, up = (
        iris_place(portray(posed(head, gaze=gaze), size=192)) for gaze in ((0, 0), (0, 0.35), (0, -0.35), (0.2, 0), (-0.2, 0))
    )
    assert left[0] > ahead[0] + 1 > right[0] + 2, "towards +x is to the right in the picture"
    assert down[1] > up[1] + 1


def test_a_blink_hides_the_eyes(head: HeadModel, portray: Portray) -> None:
    shut = {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}
    opened = area(portray(posed(head), size=128), Segment.EYES)
    assert opened > 60
    assert area(portray(posed(head, expression=shut), size=128), Segment.EYES) < 0.15 * opened


def test_mirrored_parameters_give_the_mirrored_picture(head: LinearHeadModel, portray: Portray) -> None:
    expression = {"mouthSmileLeft": 0.8, "browOuterUpRight": 0.7, "eyeBlinkLeft": 0.9}
    params = posed(head, jaw=0.2, gaze=(0.1, 0.3), expression=expression)
    one, other = portray(params, yaw=0.3), portray(head.mirror(params), yaw=-0.3)
    flipped = other.segmentation[:, ::-1]
    head_pixels = one.segmentation != Segment.CLOTHES
    assert (one.segmentation == flipped)[head_pixels].mean() > 0.99
    same = (one.depth > 0) & (one.segmentation == flipped)
    assert np.median(np.abs(one.depth - other.depth[:, ::-1])[same]) < 1e-4


@pytest.mark.parametrize("style", get_args(HairStyle))
def test_hair_frames_the_face_and_leaves_the_eyes_free(head: HeadModel, portray: Portray, style: HairStyle) -> None:
    bald, haired = portray(posed(head)), portray(posed(head), look=plain_look(style))
    assert area(haired, Segment.EYES) >= 0.9 * area(bald, Segment.EYES)
    inner = bald.landmarks_2d[27:68]
    column, row = np.floor(inner).astype(int).T
    assert not (haired.segmentation[row, column] == Segment.HAIR).any()
    if style not in ("bald", "buzz"):
        rows, _ = (haired.segmentation == Segment.HAIR).nonzero()
        assert len(rows) > 150
        assert rows.mean() < haired.landmarks_2d[8, 1], "it is on the head"


def test_looks_change_the_picture_and_not_the_geometry(head: HeadModel, portray: Portray) -> None:
    look = plain_look()
    tanned = replace(look, skin=replace(look.skin, tone=look.skin.tone * 0.5))
    one, other = portray(posed(head), look=look), portray(posed(head), look=tanned)
    assert np.array_equal(one.depth, other.depth)
    assert one.image.mean() > other.image.mean() + 10


def test_pictures_are_varied(samples: list[Portrait]) -> None:
    pictures = np.stack([sample.image for sample in samples]).astype(float)
    assert pictures.std(axis=0).mean() > 25
    assert all(20 < picture.mean() < 220 for picture in pictures)
