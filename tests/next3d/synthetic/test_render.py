"""Pictures and ground truth agree with each other and with what was commanded."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import fields, replace
from typing import get_args

import numpy as np
import pytest
import torch

from next3d.head.model import HeadModel, HeadParams, Joint, LinearHeadModel
from next3d.render.cameras import project
from next3d.synthetic.looks import Earrings, Extras, Glasses, HairStyle, Hat, Look, sample_look
from next3d.synthetic.portrait import Portrait, Segment
from next3d.synthetic.render import SUPERSAMPLING, choose_samples, render_sample
from next3d.synthetic.surface import Material
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


def dressed(extras: Extras, style: HairStyle = "short") -> Look:
    return replace(plain_look(style), extras=extras)


GLASSES = Glasses(np.full(3, 0.02, dtype=np.float32), 0.78, 0.6, 3.0, 0.05, 0.5)
HAT = Hat(np.array([0.4, 0.1, 0.1], dtype=np.float32), 34.0, False, 0.5)


def test_glasses_surround_the_eyes_and_leave_them_free(head: HeadModel, portray: Portray) -> None:
    bare, worn = portray(posed(head), size=128), portray(posed(head), look=dressed(Extras(glasses=GLASSES)), size=128)
    assert area(worn, Segment.EYES) > 0.85 * area(bare, Segment.EYES)
    row, column = (worn.segmentation == Segment.EXTRA).nonzero()
    eyes = bare.landmarks_2d[36:48]
    assert len(row) > 150
    assert row.min() < eyes[:, 1].min()
    assert eyes[:, 1].max() < row.max() < bare.landmarks_2d[33, 1] + 5, "they do not reach the mouth"
    assert column.min() < eyes[:, 0].min() < eyes[:, 0].max() < column.max()


def test_glasses_turn_with_the_head_and_not_with_the_face(head: HeadModel, portray: Portray) -> None:
    look = dressed(Extras(glasses=GLASSES))
    still = portray(posed(head), look=look).segmentation == Segment.EXTRA
    moved = portray(posed(head, jaw=0.3, gaze=(0.1, 0.3)), look=look).segmentation == Segment.EXTRA
    assert (still == moved).mean() > 0.99
    params = posed(head)
    pose = params.pose.clone()
    pose[:, Joint.NECK, 1] = 0.4
    turned = portray(replace(params, pose=pose), look=look).segmentation == Segment.EXTRA
    assert turned.nonzero()[1].mean() > still.nonzero()[1].mean() + 1


@pytest.mark.parametrize("style", get_args(HairStyle))
def test_hats_cover_the_hair_on_top_and_leave_the_eyes_free(head: HeadModel, portray: Portray, style: HairStyle) -> None:
    bare, worn = portray(posed(head)), portray(posed(head), look=dressed(Extras(hat=HAT), style))
    assert area(worn, Segment.EXTRA) > 100
    assert area(worn, Segment.EYES) >= 0.9 * area(bare, Segment.EYES)
    highest = worn.segmentation[(worn.segmentation != Segment.BACKGROUND).argmax(axis=0), np.arange(SIZE)]
    below_hat = (worn.segmentation == Segment.EXTRA).any(axis=0)
    assert (highest[below_hat] == Segment.EXTRA).mean() > 0.9, "no hair above it"


def test_beards_cover_the_chin_and_leave_the_mouth_free(head: HeadModel, portray: Portray) -> None:
    worn = portray(posed(head, jaw=0.2), look=dressed(Extras(beard=0.02), "bald"))
    assert worn.segmentation[tuple(np.floor(worn.landmarks_2d[8]).astype(int)[::-1] - (2, 0))] == Segment.HAIR
    bare = portray(posed(head, jaw=0.2))
    inside = (Segment.MOUTH, Segment.TEETH)
    assert area(worn, *inside) > 0.8 * area(bare, *inside)


def test_earrings_hang_on_ears_that_show(head: HeadModel, portray: Portray) -> None:
    rings = Extras(earrings=Earrings(np.full(3, 0.6, dtype=np.float32), 0.02, True))
    assert area(portray(posed(head), look=dressed(rings), yaw=0.6, size=128), Segment.EXTRA) > 5
    assert area(portray(posed(head), look=dressed(rings, "bob"), yaw=0.6, size=128), Segment.EXTRA) == 0


def test_small_pictures_are_plain_and_large_ones_have_everything(head: HeadModel) -> None:
    index = next(index for index in range(100) if sample_look(0, index).extras.glasses is not None)
    assert area(render_sample(head, 0, index, 64), Segment.EXTRA) == 0
    assert area(render_sample(head, 0, index, 128), Segment.EXTRA) > 0


def test_weights_of_samples_add_up_to_coverage_and_plain_pixels_take_three(rng: torch.Generator) -> None:
    size = 8
    materials = torch.tensor([int(Material.SKIN), int(Material.EYE), int(Material.HAIR)])
    face = torch.randint(-1, 3, (size * SUPERSAMPLING, size * SUPERSAMPLING), generator=rng)
    face[: SUPERSAMPLING * 2], face[SUPERSAMPLING * 2 : SUPERSAMPLING * 3] = 0, 1  # two rows of skin, one of eye
    samples = choose_samples(face, materials)
    covered = (face >= 0).float().reshape(size, SUPERSAMPLING, size, SUPERSAMPLING).mean(dim=(1, 3)).flatten()
    torch.testing.assert_close(torch.zeros(size * size).index_add(0, samples.pixel, samples.weight), covered)
    row, column = samples.place // len(face), samples.place % len(face)
    assert torch.equal(row // SUPERSAMPLING * size + column // SUPERSAMPLING, samples.pixel)
    assert (face.flatten()[samples.place] >= 0).all()
    counts = torch.bincount(samples.pixel, minlength=size * size)
    assert counts[: 2 * size].eq(SUPERSAMPLING).all()
    assert counts[2 * size : 3 * size].eq(SUPERSAMPLING**2).all()
