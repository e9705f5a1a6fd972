"""FLAME (Li et al., "Learning a model of facial shape and expression from 4D scans", 2017) from the files that its users have.

The model's licence does not let it travel with this project: see docs/flame.md for what to download. Nothing in the files is run.
FLAME's own conventions are ours: metres, x to the person's left, y up, z forward; axis-angle rotations of global, neck, jaw, left eye,
right eye; coefficients in standard deviations. The joints are regressed from the head with its shape and expression, as in the
software that FLAME's users fit heads with.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from dnnlib.errors import ConfigError, DatasetError
from next3d.head.chart import Indices
from next3d.head.dense import DENSE_COUNT, DetectorPoints
from next3d.head.dense import Embedding as DenseEmbedding
from next3d.head.flame_files import SITE, FlameFiles, as_array, as_sparse, find_flame, read_record
from next3d.head.landmarks import mirror_order
from next3d.head.model import JOINT_PARENTS, Joint, LinearHead, LinearHeadModel
from next3d.head.obj import read_obj, read_uv_mask
from next3d.head.regions import HeadSurface, find_regions, region_colors, region_uv_mask
from next3d.head.sculpt import Array
from next3d.head.topology import Topology

SHAPES, EXPRESSIONS = 300, 100
CORRECTIVES = 9 * (len(Joint) - 1)
CONTOUR_REACH = 39
"""Degrees of yaw on either side for which the files have contour landmarks."""
JOINT_GRID = 1e-8
"""Object units; joints are sums, rounded so that machines which add in another order agree on the fingerprint."""
MIRROR_TOLERANCE = 2e-3
"""Object units by which the template may miss its mirror image, where mirroring still pairs its vertices."""
_MASK_REGIONS = ("face", "lips", "neck", "scalp", "left_ear", "right_ear")


def load_flame(path: str | os.PathLike[str] | None = None) -> LinearHeadModel:
    """A FLAME model with 300 shape and 100 expression directions.

    Args:
        path: the folder with its files, or the model's .pkl file; None for what the environment variable NEXT3D_FLAME says.

    Returns:
        Identifier "flame-2020" or the like if names of file and folder tell the version, otherwise "flame"; the fingerprint tells
        models apart. Directions are named shape000 … and expression000 …

    Raises:
        ConfigError: a file is not there.
        DatasetError, PickleError: a file is damaged, is not what its name says, or does not fit the others.
    """
    files = find_flame(path)
    record = read_record(files.model)
    numbers = read_numbers(record, files.model)
    faces = _faces(record, files.model, len(numbers.template))
    model = LinearHeadModel(
        identify(files.model),
        numbers,
        _topology(files, numbers, faces),
        shape_names=tuple(f"shape{index:03d}" for index in range(SHAPES)),
        expression_names=tuple(f"expression{index:03d}" for index in range(EXPRESSIONS)),
    )
    if files.mediapipe is not None:
        model.detector_points = read_detector_points(files.mediapipe, faces)
    return model


def identify(model: Path) -> str:
    """Name and version, from the file's name or its folder's: the file does not say it inside."""
    for name in (model.name, model.absolute().parent.name):
        if match := re.search(r"flame[ _-]?(20\d\d)", name, re.IGNORECASE):
            return f"flame-{match[1]}"
    return "flame"


def read_numbers(record: Mapping[str, Any], path: Path) -> LinearHead:
    """Template, directions, joints and weights out of the model's dictionary.

    Raises:
        DatasetError: something is missing, misshapen, not finite, or says that this is another model.
    """
    template = as_array(record, "v_template", path).astype(np.float64)
    if template.ndim != 2 or template.shape[1] != 3:
        raise _misshapen(path, "v_template", template, "[vertices, 3]")
    count = len(template)
    directions = _shaped(record, "shapedirs", path, [count, 3, SHAPES + EXPRESSIONS])
    correctives = _shaped(record, "posedirs", path, [count, 3, CORRECTIVES])
    _check_joint_tree(as_array(record, "kintree_table", path), path)
    weights = _shaped(record, "weights", path, [count, len(Joint)]).astype(np.float64)
    if (weights < -1e-4).any() or (abs(weights.sum(1) - 1) > 1e-3).any():
        raise DatasetError(f"{path}: rows of 'weights' must be positive and sum to one, but some do not; download the file again.")
    regressor = as_sparse(record, "J_regressor", path)
    if regressor.shape != (len(Joint), count):
        raise _misshapen(path, "J_regressor", regressor, [len(Joint), count])
    joints = regressor @ template
    if joints[Joint.LEFT_EYE, 0] <= joints[Joint.RIGHT_EYE, 0]:
        raise DatasetError(f"{path}: the left eye must lie at larger x than the right one; is this a FLAME model from {SITE}?")
    moving = (regressor @ directions.reshape(count, -1)).reshape(len(Joint), 3, -1)
    return LinearHead(
        template=_single(template),
        shape_directions=_single(directions[:, :, :SHAPES]),
        expression_directions=_single(directions[:, :, SHAPES:]),
        joints=_single(np.round(joints / JOINT_GRID) * JOINT_GRID),
        joint_shape_directions=_single(np.round(moving[:, :, :SHAPES] / JOINT_GRID) * JOINT_GRID),
        joint_expression_directions=_single(np.round(moving[:, :, SHAPES:] / JOINT_GRID) * JOINT_GRID),
        weights=_single(weights / weights.sum(1, keepdims=True)),
        pose_directions=_single(correctives),
    )


def _single(values: NDArray[Any]) -> Tensor:
    """A float32 copy; without negative zeros, which are equal but would change the fingerprint."""
    return torch.from_numpy(values.astype(np.float32) + np.float32(0))


def _shaped(record: Mapping[str, Any], key: str, path: Path, shape: list[int]) -> NDArray[Any]:
    array = as_array(record, key, path)
    if list(array.shape) != shape:
        raise _misshapen(path, key, array, shape)
    return array


def _misshapen(path: Path, key: str, array: Any, expected: object) -> DatasetError:
    return DatasetError(f"{path}: '{key}' has shape {list(array.shape)}, expected {expected}; is this a FLAME model from {SITE}?")


def _check_joint_tree(table: NDArray[Any], path: Path) -> None:
    """Row 0 is each joint's parent; the root's is -1, which older files write as an unsigned number."""
    parents = table[0].astype(np.int64) if table.ndim == 2 and len(table) == 2 else np.empty(0, dtype=np.int64)
    parents = np.where(parents == 2**32 - 1, -1, parents)
    if parents.tolist() != [int(parent) for parent in JOINT_PARENTS]:
        raise DatasetError(
            f"{path}: 'kintree_table' gives the joints the parents {parents.tolist()[:8]}, expected {[int(p) for p in JOINT_PARENTS]} "
            f"(global, neck, jaw, left eye, right eye); is this a FLAME model from {SITE}?"
        )


def _faces(record: Mapping[str, Any], path: Path, count: int) -> Indices:
    faces = as_array(record, "f", path).astype(np.int64)
    if faces.ndim != 2 or faces.shape[1] != 3 or len(faces) == 0:
        raise _misshapen(path, "f", faces, "[triangles, 3]")
    if faces.min() < 0 or faces.max() >= count:
        raise DatasetError(f"{path}: 'f' names vertex {faces.max()}, but there are {count}; download the file again.")
    return faces


@dataclass(frozen=True)
class Embedding:
    """Landmarks on the surface: triangles and places in them."""

    faces: Indices
    """[..., L]."""
    barycentrics: Array
    """[..., L, 3]."""

    def at(self, vertices: Array, triangles: Indices) -> Array:
        """[..., L, 3] on vertices [V, 3]."""
        points: Array = (vertices[triangles[self.faces]] * self.barycentrics[..., None]).sum(-2)
        return points

    def nearest_vertices(self, triangles: Indices) -> Indices:
        """[..., L]: the corner with the largest weight."""
        corner = self.barycentrics.argmax(-1)[..., None]
        return np.take_along_axis(triangles[self.faces], corner, axis=-1)[..., 0]


def read_embeddings(paths: tuple[Path, ...], triangle_count: int) -> tuple[Embedding, Embedding | None]:
    """The 68 landmarks of a head seen from the front, and those of the contour by yaw, if there are any.

    Args:
        paths: one file with everything (DECA's landmark_embedding.npy), or the static file and perhaps the dynamic one.
        triangle_count: of the model.

    Returns:
        [68] and [79, 17]; row 39 + d of the latter is for a head turned by d degrees towards +x.

    Raises:
        DatasetError: damaged, incomplete, or of another model.
    """
    whole, contour = read_record(paths[0]), None
    if len(paths) > 1:
        contour = _read_embedding(read_record(paths[1]), paths[1], "", triangle_count)
    elif "dynamic_lmk_faces_idx" in whole:
        contour = _read_embedding(whole, paths[0], "dynamic_", triangle_count)
    if contour is not None:
        contour = _by_yaw(contour, paths[-1])
    kind = next((kind for kind in ("full_", "static_") if f"{kind}lmk_faces_idx" in whole), "")
    landmarks = _read_embedding(whole, paths[0], kind, triangle_count)
    faces, weights = landmarks.faces.reshape(-1), landmarks.barycentrics.reshape(-1, 3)
    if len(faces) == 51 and contour is not None:
        faces = np.concatenate([contour.faces[CONTOUR_REACH], faces])
        weights = np.concatenate([contour.barycentrics[CONTOUR_REACH], weights])
    if len(faces) != 68:
        raise DatasetError(
            f"{paths[0]}: has {len(faces)} landmarks, expected 68, or 51 with flame_dynamic_embedding.npy beside it for the jaw's outline."
        )
    return Embedding(faces, weights), contour


def read_detector_points(path: Path, faces: Indices) -> DetectorPoints:
    """Points of MediaPipe's face mesh on triangles [F, 3]: `lmk_face_idx`, `lmk_b_coords`, and in `landmark_indices` which of the 478.

    Raises:
        DatasetError: damaged, incomplete, or of another model.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            record = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path}: cannot be read ({error}); download it again from {SITE}.") from error
    found = _read_embedding(record, path, "", len(faces))
    numbers = as_array(record, "landmark_indices", path).astype(np.int64)
    if found.faces.shape != numbers.shape or numbers.ndim != 1 or not numbers.size:
        raise _misshapen(path, "landmark_indices", numbers, list(found.faces.shape))
    if numbers.min() < 0 or numbers.max() >= DENSE_COUNT:
        raise DatasetError(
            f"{path}: names point {numbers.max()}, but MediaPipe's face mesh has {DENSE_COUNT}; download it again from {SITE}."
        )
    corners = torch.from_numpy(faces[found.faces])
    return DetectorPoints(torch.from_numpy(numbers), DenseEmbedding(corners, _single(found.barycentrics)))


def _read_embedding(record: Mapping[str, Any], path: Path, kind: str, triangle_count: int) -> Embedding:
    """Entries such as static_lmk_faces_idx, or lmk_face_idx and lmk_b_coords in files of one kind only."""
    names = (f"{kind}lmk_faces_idx", f"{kind}lmk_bary_coords") if kind else ("lmk_face_idx", "lmk_b_coords")
    faces = as_array(record, names[0], path).astype(np.int64)
    weights = as_array(record, names[1], path).astype(np.float64)
    if weights.shape != (*faces.shape, 3):
        raise _misshapen(path, names[1], weights, [*faces.shape, 3])
    if faces.size and (faces.min() < 0 or faces.max() >= triangle_count):
        raise DatasetError(f"{path}: names triangle {faces.max()}, but the model has {triangle_count}; is it for another model?")
    if (abs(weights.sum(-1) - 1) > 1e-3).any():
        raise DatasetError(f"{path}: '{names[1]}' must hold barycentric coordinates that sum to one; download the file again.")
    return Embedding(faces, weights)


def _by_yaw(contour: Embedding, path: Path) -> Embedding:
    """Order rows by yaw. In the files, row d is for d degrees towards -x up to 39, row 39 + d for d towards +x."""
    rows = 2 * CONTOUR_REACH + 1
    if contour.faces.shape != (rows, 17):
        raise _misshapen(path, "dynamic landmarks", contour.faces, [rows, 17])
    yaw = np.arange(-CONTOUR_REACH, CONTOUR_REACH + 1)
    order = np.where(yaw > 0, CONTOUR_REACH + yaw, -yaw)
    return Embedding(contour.faces[order], contour.barycentrics[order])


def _topology(files: FlameFiles, numbers: LinearHead, faces: Indices) -> Topology:
    vertices = numbers.template.double().numpy()
    triangles = torch.from_numpy(faces)
    uvs, uv_faces = _texture(files.template, faces)
    landmarks, contour = read_embeddings(files.embedding, len(faces))
    weights = numbers.weights.double().numpy()
    surface = HeadSurface(vertices, faces, weights, landmarks.at(vertices, faces), landmarks.nearest_vertices(faces))
    regions = find_regions(surface, {} if files.masks is None else _read_masks(files.masks, len(vertices)))
    mask = region_uv_mask(triangles, uvs, uv_faces, regions) if files.uv_mask is None else read_uv_mask(files.uv_mask)
    return Topology(
        faces=triangles,
        uvs=uvs,
        uv_faces=uv_faces,
        uv_mask=mask,
        guide_colors=_single(region_colors(surface, regions)),
        landmark_faces=torch.from_numpy(landmarks.faces),
        landmark_barycentrics=_single(landmarks.barycentrics),
        contour_faces=None if contour is None else torch.from_numpy(contour.faces),
        contour_barycentrics=None if contour is None else _single(contour.barycentrics),
        mirror_vertices=mirror_map(vertices),
        mirror_landmarks=torch.from_numpy(mirror_order()),
        regions={name: torch.from_numpy(region) for name, region in regions.items()},
    )


def _texture(path: Path, faces: Indices) -> tuple[Tensor, Tensor]:
    """UVs [T, 2] and their triangles [F, 3] in the model's order, from an OBJ file that may have another."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the file and its permissions.") from error
    mesh = read_obj(data, str(path))
    if len(mesh.uvs) == 0 or mesh.uvs.min() < -1e-4 or mesh.uvs.max() > 1 + 1e-4:
        raise DatasetError(f"{path}: has no texture coordinates in [0, 1]; take head_template.obj as DECA has it.")
    own, own_turn, own_order = _canonical(mesh.faces.numpy())
    model, model_turn, model_order = _canonical(faces)
    if own.shape != model.shape or (own[own_order] != model[model_order]).any():
        raise DatasetError(f"{path}: its triangles are not those of the model; take head_template.obj as DECA has it.")
    corners = np.take_along_axis(mesh.uv_faces.numpy(), own_turn, axis=1)[own_order]
    uv_faces = np.empty_like(faces)
    rows = model_order[:, None]
    uv_faces[rows, model_turn[model_order]] = corners
    return mesh.uvs.clamp(0, 1), torch.from_numpy(uv_faces)


def _canonical(faces: Indices) -> tuple[Indices, Indices, Indices]:
    """Triangles [F, 3] that begin with their lowest vertex, the corners [F, 3] that this takes from each, and the order that sorts them."""
    turn = (faces.argmin(axis=1)[:, None] + np.arange(3)) % 3
    turned = np.take_along_axis(faces, turn, axis=1)
    return turned, turn, np.lexsort(turned.T)


def _read_masks(path: Path, count: int) -> dict[str, NDArray[np.bool_]]:
    """Those vertex masks of FLAME_masks.pkl that are regions of ours."""
    record, found = read_record(path), {}
    for name in _MASK_REGIONS:
        if name in record:
            index = as_array(record, name, path).astype(np.int64).reshape(-1)
            if index.size and (index.min() < 0 or index.max() >= count):
                raise DatasetError(f"{path}: '{name}' names vertex {index.max()}, but the model has {count}; is it for another model?")
            found[name] = np.zeros(count, dtype=bool)
            found[name][index] = True
    return found


def mirror_map(vertices: Array) -> Tensor | None:
    """[V]: each vertex's mirror image at x = 0, or None where the nearest vertices are too far away or do not pair up."""
    distance, image = cKDTree(vertices).query(vertices * np.array([-1.0, 1.0, 1.0]))
    if distance.max() > MIRROR_TOLERANCE or (image[image] != np.arange(len(image))).any():
        return None
    return torch.from_numpy(image.astype(np.int64))
