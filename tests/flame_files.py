"""A small head in FLAME's form, written as FLAME's files are: pickles of Python 2 with chumpy's and scipy's objects, object `.npy` files.

Nothing here comes from FLAME but the names of files and entries and the shapes of arrays.
"""

from __future__ import annotations

import io
import pickle
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from scipy.sparse import csc_matrix, csr_matrix

from next3d.head.model import OBJECT_TO_WORLD, Joint
from next3d.head.obj import ObjMesh, write_obj
from tests.models import toy_head

Style = Literal["chumpy", "plain", "modern"]
JOINT_PLACES = np.array([[0, -0.06, -0.03], [0, -0.04, -0.02], [0, -0.01, 0.0], [0.03, 0.02, 0.05], [-0.03, 0.02, 0.05]])
EYE_RADIUS = 0.012


@dataclass(frozen=True)
class FakeFlame:
    """Everything that the files hold."""

    record: dict[str, Any]
    """The model's dictionary of plain arrays; J_regressor is dense."""
    landmarks: dict[str, Any]
    """Entries of landmark_embedding.npy."""
    uvs: torch.Tensor
    uv_faces: torch.Tensor

    def changed(self, **entries: Any) -> FakeFlame:
        """With other entries in the model; None removes one."""
        record = {**self.record, **entries}
        return replace(self, record={key: value for key, value in record.items() if value is not None})

    def template(self) -> ObjMesh:
        """The mesh of head_template.obj: its triangles come in another order and begin with another corner."""
        faces = torch.from_numpy(self.record["f"].astype(np.int64))
        order = torch.arange(len(faces)).flip(0)
        vertices = torch.from_numpy(self.record["v_template"]).float()
        return ObjMesh(vertices, faces[order].roll(1, dims=1), self.uvs, self.uv_faces[order].roll(1, dims=1))

    def write(self, folder: Path, *, style: Style = "plain", name: str = "generic_model.pkl") -> Path:
        """All files; returns the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(dump_model(self.record, style))
        write_obj(folder / "head_template.obj", self.template())
        (folder / "landmark_embedding.npy").write_bytes(dump_npy(self.landmarks))
        return folder


def fake_flame(seed: int = 0) -> FakeFlame:
    """An ellipsoid of a head with two separate eyeballs; symmetric, but for its random directions."""
    rng = np.random.default_rng(seed)
    toy, ball = toy_head(), toy_head(6, 8)
    eye = ball.vertices.numpy() / np.abs(ball.vertices.numpy()).max(0) * EYE_RADIUS
    parts = [toy.vertices.numpy() / OBJECT_TO_WORLD, eye + JOINT_PLACES[Joint.LEFT_EYE], eye + JOINT_PLACES[Joint.RIGHT_EYE]]
    vertices = np.concatenate(parts).astype(np.float64)
    sizes = [len(part) for part in parts]
    starts, uv_starts = np.cumsum([0, *sizes]), np.cumsum([0, len(toy.topology.uvs), *[len(ball.topology.uvs)] * 2])
    topologies = (toy.topology, ball.topology, ball.topology)
    faces = np.concatenate([t.faces.numpy() + start for t, start in zip(topologies, starts, strict=False)])
    uv_faces = torch.cat([t.uv_faces + int(start) for t, start in zip(topologies, uv_starts, strict=False)])
    uvs = torch.cat([toy.topology.uvs * 0.8, ball.topology.uvs * 0.1 + 0.9, ball.topology.uvs * 0.1 + torch.tensor([0.0, 0.9])])
    weights = _skinning(vertices, sizes)
    record = {
        "v_template": vertices,
        "f": faces.astype(np.uint32),
        "shapedirs": 1e-3 * rng.standard_normal((len(vertices), 3, 400)),
        "posedirs": 1e-3 * rng.standard_normal((len(vertices), 3, 36)),
        "weights": weights,
        "J_regressor": _regressor(vertices, sizes),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], dtype=np.uint32),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
        "J": JOINT_PLACES.copy(),
    }
    assert toy.topology.landmark_faces is not None
    assert toy.topology.landmark_barycentrics is not None
    return FakeFlame(record, _landmarks(toy.topology.landmark_faces.numpy(), toy.topology.landmark_barycentrics.numpy()), uvs, uv_faces)


def _skinning(vertices: np.ndarray, sizes: list[int]) -> np.ndarray:
    """The jaw moves what lies low in front, the neck the rest; eyeballs are rigid."""
    jaw = 1 / (1 + np.exp(-100 * (vertices[:, 2] - vertices[:, 1] - 0.04)))
    root = 0.2 * (1 - jaw)
    weights = np.stack([root, 1 - root - jaw, jaw, 0 * jaw, 0 * jaw], axis=1)
    weights[sizes[0] : sizes[0] + sizes[1]] = np.eye(5)[Joint.LEFT_EYE]
    weights[sizes[0] + sizes[1] :] = np.eye(5)[Joint.RIGHT_EYE]
    return weights


def _regressor(vertices: np.ndarray, sizes: list[int]) -> np.ndarray:
    """[5, V]: means of some vertices around a joint."""
    regressor = np.zeros((5, len(vertices)))
    distance = np.linalg.norm(JOINT_PLACES[:, None] - vertices[None], axis=2)
    for joint in (Joint.GLOBAL, Joint.NECK, Joint.JAW):  # many, so that their mean lies inside the head
        regressor[joint, np.argsort(distance[joint])[:300]] = 1 / 300
    regressor[Joint.LEFT_EYE, sizes[0] : sizes[0] + sizes[1]] = 1 / sizes[1]
    regressor[Joint.RIGHT_EYE, sizes[0] + sizes[1] :] = 1 / sizes[2]
    return regressor


def _landmarks(faces: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    """The entries of landmark_embedding.npy; row r of the contour lies on triangles r to r + 16."""
    weights = weights.astype(np.float64)
    contour = np.arange(79)[:, None] + np.arange(17)
    contour[0] = faces[:17]
    places = np.full((79, 17, 3), 1 / 3)
    places[0] = weights[:17]
    return {
        "static_lmk_faces_idx": faces[17:].astype(np.uint32),
        "static_lmk_bary_coords": weights[17:],
        "dynamic_lmk_faces_idx": list(contour),
        "dynamic_lmk_bary_coords": list(places),
        "full_lmk_faces_idx": faces[None],
        "full_lmk_bary_coords": weights[None],
    }


class _Python2Pickler(pickle._Pickler):  # type: ignore[name-defined, misc]
    """Writes texts and bytes alike, as strings of Python 2."""

    def _save_string(self, text: str | bytes) -> None:
        data = text.encode("latin-1") if isinstance(text, str) else text
        short = len(data) < 256
        self.write((b"U" + bytes([len(data)]) if short else b"T" + len(data).to_bytes(4, "little")) + data)
        self.memoize(text)

    dispatch: Mapping[type, Callable[..., None]] = {**pickle._Pickler.dispatch, str: _save_string, bytes: _save_string}  # type: ignore[attr-defined]


def dump_python2(value: Any) -> bytes:
    """A pickle of protocol 2 as Python 2 writes it."""
    stream = io.BytesIO()
    _Python2Pickler(stream, protocol=2).dump(value)
    return stream.getvalue()


def dump_npy(value: Any) -> bytes:
    """A .npy file of one object."""
    stream = io.BytesIO()
    np.save(stream, np.array(value, dtype=object), allow_pickle=True)
    return stream.getvalue()


def dump_model(record: Mapping[str, Any], style: Style) -> bytes:
    """The model's pickle: of Python 2, with chumpy's wrappers or without, or a modern one without scipy."""
    if style == "modern":
        return pickle.dumps(dict(record), protocol=4)
    with stand_ins() as (wrap, sparse):
        stored = dict(record)
        if isinstance(record.get("J_regressor"), np.ndarray):
            stored["J_regressor"] = sparse(record["J_regressor"], "csc_matrix" if style == "chumpy" else "csr_matrix")
        if style == "chumpy":
            stored |= {key: wrap(record[key]) for key in ("v_template", "shapedirs", "posedirs", "weights") if key in record}
        return dump_python2(stored)


@contextmanager
def stand_ins() -> Iterator[tuple[Callable[[Any], Any], Callable[[np.ndarray, str], Any]]]:
    """Makers of objects that pickle like chumpy's arrays and, by the name of their class, scipy's sparse matrices, while this lasts."""
    names = {"chumpy.ch": ["Ch"], "scipy.sparse.csc": ["csc_matrix"], "scipy.sparse.csr": ["csr_matrix"]}
    before = {name: sys.modules.get(name) for name in ("chumpy", *names)}
    kinds = {kind: type(kind, (), {"__module__": module}) for module, (kind,) in names.items()}
    for module, (kind,) in names.items():
        sys.modules[module] = types.ModuleType(module)
        setattr(sys.modules[module], kind, kinds[kind])
    sys.modules.setdefault("chumpy", types.ModuleType("chumpy"))

    def make(kind: str, **state: Any) -> Any:
        made = kinds[kind]()
        vars(made).update(state)
        return made

    def sparse(dense: np.ndarray, kind: str) -> Any:
        matrix = (csc_matrix if kind == "csc_matrix" else csr_matrix)(dense)
        return make(kind, _shape=matrix.shape, maxprint=50, indices=matrix.indices, indptr=matrix.indptr, data=matrix.data)

    try:
        yield lambda array: make("Ch", x=array, _dirty_vars=set(), _itr=None, _cache={"drs": {}}), sparse
    finally:
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module
