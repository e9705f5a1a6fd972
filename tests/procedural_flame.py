"""The default head written as FLAME's files are: a head of FLAME's form and about its size that real faces can be fitted with."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch

from next3d.head import load_head
from next3d.head.dense import dense_embedding
from next3d.head.model import Joint, LinearHeadModel
from tests.flame_files import FakeFlame

STRENGTH = 0.35
"""A standard deviation of an expression, as a part of the full one."""
MEDIAPIPE_POINTS = range(0, 468, 4)
"""Which of the detector's points the file beside it has."""


def procedural_flame() -> FakeFlame:
    """78 of the 300 shapes and 52 of the 100 expressions do something."""
    head = load_head("procedural")
    assert isinstance(head, LinearHeadModel)
    count = len(head.template)
    directions = np.zeros((count, 3, 400), dtype=np.float32)
    directions[:, :, : len(head.shape_names)] = head.shape_directions.numpy()
    directions[:, :, 300 : 300 + len(head.expression_names)] = STRENGTH * head.expression_directions.numpy()
    correctives = np.zeros((count, 3, 36), dtype=np.float32) if head.pose_directions is None else head.pose_directions.numpy()
    topology = head.topology
    record = {
        "v_template": head.template.double().numpy(),
        "f": topology.faces.numpy().astype(np.uint32),
        "shapedirs": directions,
        "posedirs": correctives,
        "weights": head.weights.double().numpy(),
        "J_regressor": _regressor(head),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], dtype=np.uint32),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
        "J": head.joints.double().numpy(),
    }
    assert topology.landmark_faces is not None
    assert topology.landmark_barycentrics is not None
    landmarks = {
        "full_lmk_faces_idx": topology.landmark_faces.numpy()[None].astype(np.uint32),
        "full_lmk_bary_coords": topology.landmark_barycentrics.double().numpy()[None],
    }
    return FakeFlame(record, landmarks, topology.uvs, topology.uv_faces)


def _regressor(head: LinearHeadModel) -> np.ndarray:
    """[5, V] with the smallest coefficients that give the joints of the template; an eye's are those of its own vertices."""
    template = head.template.double().numpy()
    regressor = np.zeros((len(Joint), len(template)))
    for joint in Joint:
        near = np.argsort(np.linalg.norm(template - head.joints[joint].double().numpy(), axis=1))[:300]
        if joint in (Joint.LEFT_EYE, Joint.RIGHT_EYE):
            name = "left_eye" if joint == Joint.LEFT_EYE else "right_eye"
            near = head.topology.regions[name].nonzero()[:, 0].numpy()
        rows = np.concatenate([template[near].T, np.ones((1, len(near)))])
        regressor[joint, near] = np.linalg.pinv(rows) @ np.append(head.joints[joint].double().numpy(), 1.0)
    return regressor


def write_mediapipe_points(folder: Path) -> Path:
    """`mediapipe_landmark_embedding.npz` as FLAME's site has it, with the default head's points."""
    head = load_head("procedural")
    embedding = dense_embedding(head)
    numbers = np.array(MEDIAPIPE_POINTS)
    ours = {tuple(sorted(face)): index for index, face in enumerate(head.topology.faces.tolist())}
    triangles = np.array([ours[tuple(sorted(embedding.corners[number].tolist()))] for number in numbers])
    weights = np.zeros((len(numbers), 3))
    for row, (number, triangle) in enumerate(zip(numbers, triangles, strict=True)):
        place = dict(zip(embedding.corners[number].tolist(), embedding.weights[number].tolist(), strict=True))
        weights[row] = [place[corner] for corner in head.topology.faces[triangle].tolist()]
    stream = io.BytesIO()
    np.savez(stream, lmk_face_idx=triangles, lmk_b_coords=weights, landmark_indices=numbers)
    path = folder / "mediapipe_landmark_embedding.npz"
    path.write_bytes(stream.getvalue())
    return path


def detected_points(vertices: torch.Tensor) -> torch.Tensor:
    """The 478 points [N, 478, 3] on vertices [N, V, 3] of the default head's triangles."""
    return dense_embedding(load_head("procedural")).place(vertices)
