"""Augmentation: what moves together, what a label must say afterwards, and the adaptive strength."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from dnnlib.errors import ConfigError
from next3d.render.cameras import mirrored_camera, orbit_camera
from next3d.render.mesh_image import render_mesh_image
from next3d.types import Camera
from tests.models import ToyHead, labels, toy_head
from tests.nohost import NoHost
from torch_utils.ops.resize import resize
from training.augment import SIGNS, STRENGTH, Augmentation, View, adapted, initial_counters, same_on_both_sides
from training.config import TRANSFORMS, AugmentConfig
from training.randomness import Draws

SIZE, RAW = 64, 32
ONE = torch.ones((), dtype=torch.float64)


@pytest.fixture(scope="module")
def toy() -> ToyHead:
    return toy_head()


@pytest.fixture(scope="module")
def even(toy: ToyHead) -> ToyHead:
    """A head with equal colours on both sides."""
    colors = toy.topology.guide_colors * torch.tensor([0.0, 1.0, 1.0])
    return replace(toy, topology=replace(toy.topology, guide_colors=colors))


def augmentation(head: ToyHead, *transforms: str) -> Augmentation:
    return Augmentation(AugmentConfig(kind="fixed", p=1, transforms=transforms), Draws(0), head.topology)


def pictures(count: int, rng: torch.Generator) -> View:
    """Smooth pictures, the raw ones the same at half the size."""
    image = F.interpolate(torch.rand(count, 3, 6, 6, generator=rng) * 2 - 1, size=SIZE, mode="bicubic")
    mesh = F.interpolate(torch.rand(count, 3, 6, 6, generator=rng) * 2 - 1, size=SIZE, mode="bicubic")
    return View(image, resize(image, RAW), mesh, mesh.flip(0), labels(count))


def test_strength_0_changes_no_bit(even, rng):
    view = pictures(4, rng)
    same = augmentation(even, *TRANSFORMS)(view, torch.arange(4), "x", torch.zeros((), dtype=torch.float64))
    for name in ("image", "image_raw", "mesh_image", "other_mesh_image"):
        assert torch.equal(getattr(same, name), getattr(view, name)), name
    torch.testing.assert_close(same.label, view.label, rtol=0, atol=1e-6)


def test_noaug_hands_the_view_on(even, rng):
    view = pictures(2, rng)
    assert Augmentation(AugmentConfig(), Draws(0), even.topology)(view, torch.arange(2), "x", ONE) is view


@pytest.mark.parametrize("part", ["blit", "geom"])
def test_geometry_moves_image_raw_image_and_mesh_together(part, even, rng):
    """Each equals the same move of the others, at its own size."""
    count = 16
    view = pictures(count, rng)
    view = replace(view, mesh_image=view.image.clone())
    moved = augmentation(even, part)(view, torch.arange(count), "x", ONE)
    assert torch.equal(moved.mesh_image, moved.image)
    assert (moved.image - view.image).abs().mean(dim=(1, 2, 3)).median() > 0.1, "it did move"
    error = (resize(moved.image, RAW) - moved.image_raw).abs().mean(dim=(1, 2, 3))
    assert error.max() < 0.03


@pytest.mark.parametrize("part", ["blit", "geom"])
def test_the_label_says_what_camera_sees_the_moved_picture(part, even):
    """Augmenting the rendering of a mesh gives the rendering under the new label's camera; of the mirrored mesh where it was flipped."""
    count = 12
    turn = torch.linspace(-0.5, 0.5, count)
    camera = orbit_camera(turn, turn.flip(0) / 2, focal=1.6)  # far away: what is reflected at the edges is background
    mesh = even.mesh(count, seed=1)
    drawn = render_mesh_image(mesh, camera, even.topology, SIZE)
    view = View(drawn, resize(drawn, RAW), drawn, None, camera.to_label())
    moved = augmentation(even, part)(view, torch.arange(count), "x", ONE)
    candidates = [render_mesh_image(which, Camera.from_label(moved.label), even.topology, SIZE) for which in (mesh, even.mirrored(mesh))]
    errors = torch.stack([(found - moved.mesh_image).abs().mean(dim=(1, 2, 3)) for found in candidates])
    unmoved = (drawn - moved.mesh_image).abs().mean(dim=(1, 2, 3))
    assert errors.amin(dim=0).max() < 0.03  # a large shift reflects some of the head
    assert errors.amin(dim=0).median() < 0.008
    assert errors.amin(dim=0).mean() < 0.2 * unmoved.mean()
    if part == "blit":
        assert 0 < (errors[1] < errors[0]).sum() < count, "some are flipped"


def test_heads_of_other_colours_on_their_sides_are_not_flipped(toy, even):
    assert same_on_both_sides(even.topology)
    assert not same_on_both_sides(toy.topology)
    assert not same_on_both_sides(replace(even.topology, mirror_vertices=None))
    label = labels(40)
    zeros = torch.zeros(40, 3, 8, 8)
    moved = augmentation(toy, "blit")(View(zeros, zeros, None, None, label), torch.arange(40), "x", ONE)
    assert torch.equal(moved.label[:, :16], label[:, :16]), "shifts leave the camera where it is"
    flipped = augmentation(even, "blit")(View(zeros, zeros, None, None, label), torch.arange(40), "x", ONE).label[:, :16]
    mirrored = mirrored_camera(Camera.from_label(label)).cam2world.flatten(1)
    assert 10 < (flipped == mirrored).all(dim=1).sum() < 30


@pytest.mark.parametrize("part", ["color", "noise", "cutout"])
def test_what_is_not_geometry_leaves_mesh_and_label_alone(part, even, rng):
    view = pictures(8, rng)
    changed = augmentation(even, part)(view, torch.arange(8), "x", ONE)
    assert torch.equal(changed.mesh_image, view.mesh_image)
    assert torch.equal(changed.label, view.label)
    assert (changed.image - view.image).abs().mean(dim=(1, 2, 3)).min() > 1e-4
    if part != "noise":  # both images get the same colours and the same hole
        assert (resize(changed.image, RAW) - changed.image_raw).abs().mean() < 0.03


def test_colours_stay_grey_where_they_were_grey(even):
    """Hue and saturation turn about the grey axis, brightness and contrast act on all channels alike."""
    grey = torch.linspace(-1, 1, SIZE).expand(6, 3, SIZE, SIZE)
    changed = augmentation(even, "color")(View(grey, grey, None, None, labels(6)), torch.arange(6), "x", ONE).image
    torch.testing.assert_close(changed, changed.mean(dim=1, keepdim=True).expand_as(changed), rtol=0, atol=1e-5)


def test_cutout_blanks_a_square_of_half_the_size(even):
    ones = torch.ones(200, 3, 16, 16)
    cut = augmentation(even, "cutout")(View(ones, ones, None, None, labels(200)), torch.arange(200), "x", ONE).image
    assert (cut == 0).float().mean(dim=(1, 2, 3)).max() == 0.25
    assert torch.equal(cut == 0, (cut == 0)[:, :1].expand_as(cut))


def test_every_transform_happens_with_the_given_probability(even):
    """At strength 0.3 three samples in ten are blanked; turns, scales and shifts together leave 0.7 cubed alone."""
    count = 2000
    noise = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)).expand(count, -1, -1, -1)
    view = View(noise, noise, None, None, labels(1).expand(count, -1))
    strength = torch.full((), 0.3, dtype=torch.float64)
    changed = {part: augmentation(even, part)(view, torch.arange(count), "x", strength) for part in ("cutout", "geom")}
    touched = {part: (found.image != noise).flatten(1).any(1).float().mean() for part, found in changed.items()}
    assert touched["cutout"] == pytest.approx(0.3 * 0.97, abs=0.04)
    assert touched["geom"] == pytest.approx(1 - 0.7**3, abs=0.04)


def test_draws_belong_to_the_position_and_the_purpose(even, rng):
    """A sample's transforms do not depend on its company; other views of it get others."""
    view, augment = pictures(6, rng), augmentation(even, *TRANSFORMS)
    position = torch.arange(100, 106)
    whole = augment(view, position, "reals", ONE)
    part = augment(view[2:4], position[2:4], "reals", ONE)
    torch.testing.assert_close(part.image, whole.image[2:4], rtol=0, atol=1e-5)
    torch.testing.assert_close(part.label, whole.label[2:4])
    assert not torch.allclose(augment(view, position, "fakes", ONE).image, whole.image)


def test_both_derivatives_pass_through_all_transforms(even, rng):
    """The generator learns through it, and R1 differentiates twice."""
    image, raw = (torch.rand(2, 3, size, size, generator=rng, dtype=torch.float64, requires_grad=True) for size in (8, 4))
    augment, label = augmentation(even, *TRANSFORMS), labels(2).double()

    def judge(image: torch.Tensor, raw: torch.Tensor) -> torch.Tensor:
        seen = augment(View(image, raw, None, None, label), torch.arange(2), "x", ONE)
        return seen.image.sin().sum() + seen.image_raw.cos().sum()

    assert torch.autograd.gradcheck(judge, (image, raw), fast_mode=True)
    assert torch.autograd.gradgradcheck(judge, (image, raw), fast_mode=True)


def test_nothing_waits_for_the_host(even, rng):
    view, augment = pictures(4, rng), augmentation(even, *TRANSFORMS)
    config = AugmentConfig(kind="ada")
    counters = initial_counters(config, torch.device("cpu"))
    with NoHost():
        augment(view, torch.arange(4), "x", counters[STRENGTH])
        for step in range(8):
            counters = adapted(config, counters, torch.tensor(0.75, dtype=torch.float64), step=step, batch=4)


def test_adaptive_strength_goes_from_0_to_1_in_its_time_and_back():
    """Reals known by heart (mean sign 1) raise it by 1 in 500 kimg, doubtful ones lower it; it stays in [0, 1]."""
    config = AugmentConfig(kind="ada", interval=4, target=0.6)
    counters = initial_counters(config, torch.device("cpu"))
    batch, steps = 500, 500
    sure, doubtful = (torch.tensor(mean, dtype=torch.float64) for mean in (0.8, 0.5))
    found = []
    for step in range(3 * steps):
        counters = adapted(config, counters, sure if step < 2 * steps else doubtful, step=step, batch=batch)
        found.append(float(counters[STRENGTH]))
    assert found[:3] == [0, 0, 0], "it changes in every fourth step"
    assert found[steps - 1] == pytest.approx(0.5)
    assert found[2 * steps - 1] == pytest.approx(1)
    assert found[-1] == pytest.approx(0.5)
    assert not counters[SIGNS].any()
    assert math.isclose(found[2 * steps // 2 + 3] - found[2 * steps // 2 - 1], 4 * batch / 500_000)


def test_only_adaptive_strength_has_counters():
    assert initial_counters(AugmentConfig(), torch.device("cpu")) == {}
    assert initial_counters(AugmentConfig(kind="fixed", p=0.2), torch.device("cpu")) == {}
    assert initial_counters(AugmentConfig(kind="ada", p=0.2), torch.device("cpu"))[STRENGTH] == 0.2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "fixed"}, "give --p"),
        ({"kind": "ada", "p": 1.5}, "p in"),
        ({"transforms": ("blit", "wavelets")}, "unknown transforms 'wavelets'"),
        ({"kind": "ada", "transforms": ()}, "names no transforms"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        AugmentConfig(**settings)
