"""Regions found from a mesh and its landmarks: the default head's own regions, which it knows exactly, are the measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from next3d.head import load_head
from next3d.head.model import Joint, LinearHeadModel
from next3d.head.obj import read_obj
from next3d.head.regions import HeadSurface, Mask, find_regions, region_colors, region_uv_mask


@pytest.fixture(scope="module")
def head() -> LinearHeadModel:
    model = load_head("procedural")
    assert isinstance(model, LinearHeadModel)
    return model


@pytest.fixture(scope="module")
def surface(head: LinearHeadModel) -> HeadSurface:
    topology = head.topology
    landmarks = topology.landmarks(head.template[None])[0]
    assert topology.landmark_faces is not None
    assert topology.landmark_barycentrics is not None
    corner = topology.landmark_barycentrics.argmax(1)
    nearest = topology.faces[topology.landmark_faces][torch.arange(68), corner]
    vertices, weights, points = (tensor.double().numpy() for tensor in (head.template, head.weights, landmarks))
    return HeadSurface(vertices, topology.faces.numpy(), weights, points, nearest.numpy())


@pytest.fixture(scope="module")
def regions(surface: HeadSurface) -> dict[str, Mask]:
    return find_regions(surface, {})


def overlap(found: Mask, true: Tensor) -> float:
    """Intersection over union."""
    return float((found & true.numpy()).sum() / (found | true.numpy()).sum())


def test_eyeballs_and_irises(head: LinearHeadModel, regions: dict[str, Mask]) -> None:
    known = head.topology.regions
    for side in ("left", "right"):
        assert overlap(regions[f"{side}_eye"], known[f"{side}_eye"]) == 1
        assert overlap(regions[f"{side}_iris"], known[f"{side}_iris"]) > 0.7


def test_lips_lids_and_the_mouths_inside(head: LinearHeadModel, regions: dict[str, Mask]) -> None:
    known = head.topology.regions
    assert overlap(regions["lips"], known["lips"]) > 0.85
    assert overlap(regions["mouth_interior"], known["mouth_interior"]) > 0.9
    for side in ("left", "right"):
        assert overlap(regions[f"{side}_lids"], known[f"{side}_lids"]) > 0.6


def test_the_face_is_the_front_of_the_head(head: LinearHeadModel, regions: dict[str, Mask]) -> None:
    known = head.topology.regions
    assert overlap(regions["face"], known["face"]) > 0.75
    for name in ("scalp", "neck", "left_ear", "right_ear"):
        assert (regions["face"] & known[name].numpy()).sum() < 0.25 * known[name].sum(), name


def test_nothing_belongs_to_two_regions(regions: dict[str, Mask]) -> None:
    whole = [regions[name] for name in ("face", "mouth_interior", "left_eye", "right_eye")]
    assert np.sum(whole, axis=0).max() == 1
    for name in ("lips", "left_lids", "right_lids"):
        assert not (regions[name] & ~regions["face"]).any(), name


def test_masks_that_are_known_go_first(surface: HeadSurface, regions: dict[str, Mask]) -> None:
    some = np.zeros(len(surface.vertices), dtype=bool)
    some[np.flatnonzero(regions["lips"])[:5]] = True
    with_lips = find_regions(surface, {"lips": some, "neck": ~regions["left_eye"]})
    assert (with_lips["lips"] == some).all()
    assert not (with_lips["neck"] & (with_lips["face"] | with_lips["right_eye"] | with_lips["mouth_interior"])).any()


def test_colours_tell_regions_apart_and_sides_alike(head: LinearHeadModel, surface: HeadSurface, regions: dict[str, Mask]) -> None:
    colors = region_colors(surface, regions)
    assert np.abs(colors).max() <= 1
    skin = regions["face"] & ~regions["lips"] & ~regions["left_lids"] & ~regions["right_lids"]
    means = [colors[skin].mean(0)] + [colors[regions[name]].mean(0) for name in ("left_iris", "left_lids", "lips", "mouth_interior")]
    distances = [np.linalg.norm(a - b) for i, a in enumerate(means) for b in means[:i]]
    assert min(distances) > 0.5
    order = head.topology.mirror_vertices
    assert order is not None
    alike = np.abs(colors[order.numpy()] - colors).max(1) < 0.05
    assert alike.mean() > 0.97


def test_the_uv_mask_shows_face_and_eyes(head: LinearHeadModel, regions: dict[str, Mask]) -> None:
    topology = head.topology
    mask = region_uv_mask(topology.faces, topology.uvs, topology.uv_faces, regions)
    assert mask.shape == topology.uv_mask.shape
    assert mask.dtype == torch.float32
    centers = topology.uvs[topology.uv_faces].mean(1)
    size = mask.shape[-1]
    value = mask[0][((1 - centers[:, 1]) * size).long(), (centers[:, 0] * size).long()]
    for name, expected in (("face", 1.0), ("left_eye", 1.0), ("mouth_interior", 0.0)):
        inside = torch.from_numpy(regions[name])[topology.faces].all(dim=1)
        assert abs(float(value[inside].mean()) - expected) < 0.15, name


def test_a_published_mesh(shared_dir: Path) -> None:
    """FLAME's topology: the lips part, the mouth's inside begins behind them, irises look ahead."""
    folder = shared_dir / "next3d-layout-sample"
    mesh = read_obj((folder / "meshes512x512/00000/img00000000.obj").read_bytes(), "sample")
    landmarks = np.loadtxt(folder / "lms512x512/00000/img00000000.txt")
    weights = np.zeros((len(mesh.vertices), 5))
    weights[:, Joint.NECK] = 1
    for first, last, joint in ((3931, 4477, Joint.LEFT_EYE), (4477, 5023, Joint.RIGHT_EYE)):
        weights[first:last] = np.eye(5)[joint]
    vertices = mesh.vertices.double().numpy()
    nearest = np.linalg.norm(vertices[:3931] - landmarks[:, None], axis=2).argmin(1)  # the mouth is open
    surface = HeadSurface(vertices, mesh.faces.numpy(), weights, landmarks, nearest)
    regions = find_regions(surface, {})
    assert regions["left_eye"].nonzero()[0].tolist() == list(range(3931, 4477))
    depth = surface.vertices[:, 2]
    assert depth[regions["mouth_interior"]].mean() < depth[regions["lips"]].mean() - 0.005
    assert 60 < regions["lips"].sum() < 250
    assert depth[regions["right_iris"]].min() > depth[regions["right_eye"]].mean()
    assert 0.3 < regions["face"].mean() < 0.5
