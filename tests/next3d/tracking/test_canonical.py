"""The canonical frame: the same pictures, heads in one place, cameras on one sphere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from next3d.head import load_head
from next3d.head.flame import load_flame
from next3d.head.model import HeadParams, Joint, LinearHeadModel, axis_angle_to_matrix
from next3d.render.cameras import PORTRAIT_RADIUS, moved_image_camera, orbit_camera, project
from next3d.tracking.canonical import DEFAULT_PITCH, FACE_MIDDLE, canonical, home
from next3d.tracking.types import HeadFit
from next3d.types import Camera
from tests.flame_files import fake_flame

COUNT = 4


@pytest.fixture(scope="module")
def flame(tmp_path_factory: pytest.TempPathFactory) -> LinearHeadModel:
    return load_flame(fake_flame().write(tmp_path_factory.mktemp("flame")))


@pytest.fixture(params=["procedural", "flame"])
def head(request: pytest.FixtureRequest) -> LinearHeadModel:
    """The default head, and one whose global rotation turns about a joint that moves with the shape."""
    model = request.getfixturevalue("flame") if request.param == "flame" else load_head("procedural")
    assert isinstance(model, LinearHeadModel)
    return model


def random_fit(head: LinearHeadModel, rng: torch.Generator) -> HeadFit:
    """Heads of any pose before the standard camera, nearer and further, and cameras that roll."""
    rest = head.neutral(COUNT)
    noise = lambda tensor, size: size * torch.randn(tensor.shape, generator=rng)  # noqa: E731
    params = HeadParams(
        shape=noise(rest.shape, 0.5),
        expression=noise(rest.expression, 0.1),
        pose=noise(rest.pose, 0.3),
        translation=noise(rest.translation, 0.1),
        scale=1 + noise(rest.scale, 0.05),
    )
    camera = orbit_camera(noise(rest.scale, 0.2), noise(rest.scale, 0.1))
    return HeadFit(
        params, moved_image_camera(camera, noise(rest.scale, 0.3), 1 + noise(rest.scale, 0.1), torch.zeros(COUNT, 2)), rest.scale
    )


def shown(head: LinearHeadModel, fit: HeadFit) -> Tensor:
    """Where the vertices are in the picture, unit coordinates."""
    return project(head(fit.params).vertices, fit.camera)[..., :2] / 2


def test_pictures_stay_and_heads_come_home(head: LinearHeadModel, rng: torch.Generator) -> None:
    fit = random_fit(head, rng)
    found = canonical(head, fit)
    torch.testing.assert_close(shown(head, found), shown(head, fit), rtol=0, atol=1e-5)
    assert (found.params.pose[:, Joint.GLOBAL] == torch.tensor([home(head).pitch, 0.0, 0.0])).all()
    assert (found.params.translation == home(head).translation).all()
    position = found.camera.cam2world[:, :3, 3]
    torch.testing.assert_close(position.norm(dim=1), torch.full((COUNT,), PORTRAIT_RADIUS))
    assert ((found.camera.cam2world[:, :3, 2] * -position).sum(dim=1) > 0).all(), "cameras look inwards"
    for name in ("shape", "expression"):
        assert (getattr(found.params, name) == getattr(fit.params, name)).all()
    assert (found.params.pose[:, 1:] == fit.params.pose[:, 1:]).all()
    assert (found.camera.intrinsics == fit.camera.intrinsics).all()


def test_the_frame_of_the_fit_does_not_matter(rng: torch.Generator) -> None:
    """The same pictures described in another world (turned, larger, elsewhere) have the same canonical description."""
    head = load_head("procedural")
    assert isinstance(head, LinearHeadModel)
    first = canonical(head, random_fit(head, rng))
    turn = axis_angle_to_matrix(torch.tensor([0.3, -0.8, 0.2]))
    pose = first.params.pose.clone()
    pose[:, Joint.GLOBAL] = 0
    upright = replace(first, params=replace(first.params, pose=pose))  # global rotation would have to be composed otherwise
    pose = pose.clone()
    pose[:, Joint.GLOBAL] = torch.tensor([0.3, -0.8, 0.2])
    moved = replace(
        upright.params, pose=pose, translation=1.7 * upright.params.translation @ turn.T + 0.4, scale=1.7 * upright.params.scale
    )
    cam2world = upright.camera.cam2world.clone()
    cam2world[:, :3, :3] = turn @ cam2world[:, :3, :3]
    cam2world[:, :3, 3] = 1.7 * cam2world[:, :3, 3] @ turn.T + 0.4
    other = HeadFit(moved, Camera(cam2world, upright.camera.intrinsics), upright.error)
    torch.testing.assert_close(shown(head, other), shown(head, upright), rtol=0, atol=1e-5)
    wanted, found = canonical(head, upright), canonical(head, other)
    torch.testing.assert_close(found.camera.to_label(), wanted.camera.to_label(), rtol=0, atol=2e-5)
    torch.testing.assert_close(found.params.scale, wanted.params.scale)


def test_what_is_canonical_stays(head: LinearHeadModel, rng: torch.Generator) -> None:
    once = canonical(head, random_fit(head, rng))
    twice = canonical(head, once)
    torch.testing.assert_close(twice.camera.to_label(), once.camera.to_label(), rtol=0, atol=1e-5)
    torch.testing.assert_close(twice.params.scale, once.params.scale)


def test_scale_takes_up_the_distance_at_which_the_camera_stood() -> None:
    head = load_head("procedural")
    assert isinstance(head, LinearHeadModel)
    near, far = orbit_camera(torch.zeros(1), torch.zeros(1), radius=2.5), orbit_camera(torch.zeros(1), torch.zeros(1), radius=3.0)
    scales = [float(canonical(head, HeadFit(head.neutral(1), camera, torch.zeros(1))).params.scale) for camera in (near, far)]
    assert scales[0] / scales[1] == pytest.approx(3.0 / 2.5, abs=0.002)


def test_other_models_are_laid_upon_the_default_head() -> None:
    """The default head in another frame (nodding, larger, elsewhere) comes to the same place."""
    plain = load_head("procedural")
    assert isinstance(plain, LinearHeadModel)
    assert home(plain).pitch == pytest.approx(DEFAULT_PITCH, abs=1e-6)
    other = _other_frame(plain, nod=0.06, shift=torch.tensor([0.0, 0.03, -0.04]))
    assert home(other).pitch == pytest.approx(DEFAULT_PITCH - 0.06, abs=1e-4)
    faces = []
    for head in (plain, other):
        params, at_home = head.neutral(1), home(head)
        params.pose[:, Joint.GLOBAL, 0] = at_home.pitch
        faces.append(head(replace(params, translation=at_home.translation[None])).landmarks[0])
    torch.testing.assert_close(faces[1], faces[0], rtol=0, atol=2e-4)
    middle = torch.stack([faces[0][36:42].mean(0), faces[0][42:48].mean(0), faces[0][30], faces[0][48], faces[0][54]]).mean(0)
    torch.testing.assert_close(middle, torch.tensor(FACE_MIDDLE), rtol=0, atol=1e-5)


def _other_frame(head: LinearHeadModel, *, nod: float, shift: Tensor) -> LinearHeadModel:
    """A copy whose template and joints are turned about x and moved; only its neutral head is of use."""
    import copy

    other = copy.copy(head)
    other._buffers = dict(head._buffers)
    turn = axis_angle_to_matrix(torch.tensor([nod, 0.0, 0.0]))
    other._buffers["template"] = head.template @ turn.T + shift
    other._buffers["joints"] = head.joints @ turn.T + shift
    return other


def test_labels_of_real_crops(shared_dir: Path) -> None:
    """Camera directions within 4 degrees of the labels, crops moved by at most 2 % of their size."""
    pytest.importorskip("mediapipe")
    from bench.tracking_real import read_labelled, track_labelled

    photos = read_labelled(shared_dir / "portraits")
    for photo, found in zip(photos, track_labelled(photos), strict=True):
        assert found.direction_error <= 4, photo.name
        assert max(found.moved) <= 0.02, photo.name
