"""The files of a FLAME head model as people download them: found by their usual names, read without running anything in them.

The model is a pickle that Python 2 wrote: a dictionary of arrays, in older files wrapped by chumpy, and one sparse matrix of scipy.
The landmark embeddings are pickles, too, the `.npy` ones with NumPy's header in front.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix

from dnnlib.errors import ConfigError, DatasetError
from dnnlib.inert import Opaque
from dnnlib.safe_pickle import load_object_npy, loads
from next3d.head import FLAME_VARIABLE
from torch_utils.inert_storages import TensorReader

Array = NDArray[Any]

SITE = "https://flame.is.tue.mpg.de"
MODEL_NAMES = (("flame2023.pkl", "generic_model.pkl", "flame_neutral.pkl"), ("flame2023_no_jaw.pkl", "female_model.pkl", "male_model.pkl"))
"""Usual names of the model, in lower case; the later group counts only where the first has none."""
TEMPLATE_NAMES = ("head_template.obj", "head_template_mesh.obj")
EMBEDDING_NAMES = ("landmark_embedding.npy", "landmark_embedding_with_eyes.npy")
STATIC_NAMES = ("flame_static_embedding.pkl", "flame_static_embedding_68.pkl")
DYNAMIC_NAMES = ("flame_dynamic_embedding.npy",)
MASKS_NAMES = ("flame_masks.pkl",)
UV_MASK_NAMES = ("uv_face_eye_mask.png",)
MEDIAPIPE_NAMES = ("mediapipe_landmark_embedding.npz",)
DEPTH = 2
"""How many folders deep a folder is searched."""
LARGEST = 1e30
"""What fits a float32, with room for sums."""
_BY_COLUMN = {"csc_matrix": True, "csc_array": True, "csr_matrix": False, "csr_array": False}
"""scipy's sparse matrices: whether their runs are columns or rows."""


@dataclass(frozen=True)
class FlameFiles:
    """Where the parts of a FLAME model lie."""

    model: Path
    template: Path
    """The OBJ file with the texture coordinates."""
    embedding: tuple[Path, ...]
    """Landmarks: one file with everything, or a static one and perhaps a dynamic one."""
    masks: Path | None
    uv_mask: Path | None
    mediapipe: Path | None = None
    """Where points of MediaPipe's face mesh lie."""


def find_flame(path: str | os.PathLike[str] | None = None) -> FlameFiles:
    """Find the files by their usual names, whatever their case.

    Args:
        path: the model's .pkl file, whose companions lie in its folder or the one above; or a folder that holds everything, up to two
            folders deep; None for what NEXT3D_FLAME says.

    Raises:
        ConfigError: no such path, or a part is missing there, or there are several models to choose from.
    """
    place = str(path) if path is not None else os.environ.get(FLAME_VARIABLE, "")
    if not place:
        raise ConfigError(
            f"no FLAME here: it has a licence of its own; get it at {SITE}, then give --flame FOLDER or set {FLAME_VARIABLE}."
        )
    root = Path(place)
    if root.is_dir():
        found = _listing(root, DEPTH)
        model = _only_model(root, found)
    elif root.is_file():
        model = root
        found = _listing(root.absolute().parent.parent, 0) | _listing(root.parent, 0)
    else:
        raise ConfigError(f"{place}: there is no such file or folder; give FLAME's folder with --flame FOLDER or {FLAME_VARIABLE}.")
    template = _first(found, TEMPLATE_NAMES)
    if template is None:
        raise ConfigError(
            f"{place}: has no {TEMPLATE_NAMES[0]}, the mesh with FLAME's texture coordinates; put it beside {model.name} "
            "(it comes with DECA, https://github.com/yfeng95/DECA, folder data)."
        )
    further = (_first(found, names) for names in (MASKS_NAMES, UV_MASK_NAMES, MEDIAPIPE_NAMES))
    return FlameFiles(model, template, _embedding(place, found, model), *further)


def _listing(root: Path, depth: int) -> dict[str, list[Path]]:
    """Files by their name in lower case; of equal names only those nearest to the root, by the alphabet."""
    found: dict[str, list[Path]] = {}
    folders = [root]
    for _ in range(depth + 1):
        entries = [entry for folder in folders for entry in _entries(folder)]
        level: dict[str, list[Path]] = {}
        for entry in entries:
            if entry.is_file():
                level.setdefault(entry.name.lower(), []).append(entry)
        found = level | found
        folders = [entry for entry in entries if entry.is_dir()]
    return found


def _entries(folder: Path) -> list[Path]:
    """What is in a folder; nothing where it may not be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _first(found: Mapping[str, list[Path]], names: tuple[str, ...]) -> Path | None:
    return next((found[name][0] for name in names if name in found), None)


def _only_model(root: Path, found: Mapping[str, list[Path]]) -> Path:
    for group in MODEL_NAMES:
        models = [file for name in group for file in found.get(name, [])]
        if len(models) > 1:
            shown = ", ".join(str(model) for model in models)
            raise ConfigError(f"{root}: holds several FLAME models ({shown}); give the path of one of these files.")
        if models:
            return models[0]
    names = " or ".join(MODEL_NAMES[0][:2])
    raise ConfigError(f"{root}: no FLAME here, expected {names}; get it at {SITE}, then give --flame FOLDER or set {FLAME_VARIABLE}.")


def _embedding(place: str, found: Mapping[str, list[Path]], model: Path) -> tuple[Path, ...]:
    whole, static, dynamic = (_first(found, names) for names in (EMBEDDING_NAMES, STATIC_NAMES, DYNAMIC_NAMES))
    if whole is not None:
        return (whole,)
    if static is not None:
        return (static,) if dynamic is None else (static, dynamic)
    raise ConfigError(
        f"{place}: has no {EMBEDDING_NAMES[0]}, which says where the landmarks lie; put it beside {model.name} "
        "(it comes with DECA, https://github.com/yfeng95/DECA, folder data)."
    )


def read_record(path: Path) -> dict[str, Any]:
    """The dictionary that a .pkl file, or a .npy file of one object, holds. Arrays may be views into the file's bytes.

    Raises:
        ConfigError: the file cannot be opened.
        DatasetError: it does not hold a dictionary.
        PickleError: damaged, or asks for more than FLAME's data needs; nothing of it is run.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the file and its permissions.") from error
    known = TensorReader(str(path)).known()  # DECA's embedding holds tensors
    if path.suffix.lower() == ".npy":
        record = load_object_npy(data, where=str(path), known=known)
    else:
        record = loads(data, where=str(path), known=known, opaque=_is_known_class, encoding="latin1")
    if not isinstance(record, dict):
        raise DatasetError(f"{path}: holds one {type(record).__name__}, expected a dictionary of arrays; download the file again.")
    return record


def _is_known_class(module: str, name: str) -> bool:
    """Classes whose objects are kept as records, see `as_array`."""
    return module.split(".")[0] == "chumpy" or (module.startswith("scipy.sparse") and name in _BY_COLUMN)


def as_array(record: Mapping[str, Any], key: str, path: Path) -> Array:
    """The numbers under a key: an array, a tensor, a list of them, a number, or one that chumpy wraps.

    Raises:
        DatasetError: the key is missing, or holds something else, or numbers that are not finite.
    """
    value = _plain(_entry(record, key, path))
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):  # a list of unequal lengths, a tensor of a type that NumPy has not
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "iuf":
        shown = value if isinstance(value, Opaque) else f"{type(value).__name__} of something else"
        raise DatasetError(f"{path}: '{key}' is a {shown}, expected an array of numbers; download the file again.")
    if array.size and not (array.min() >= -LARGEST and array.max() <= LARGEST):  # NaN fails both
        raise DatasetError(f"{path}: '{key}' holds NaN, infinite or absurd numbers; download the file again.")
    return array


def as_sparse(record: Mapping[str, Any], key: str, path: Path) -> csr_matrix:
    """The sparse matrix under a key, compressed by columns or by rows; a dense one will do.

    Raises:
        DatasetError: the key is missing, or does not hold a matrix of finite numbers.
    """
    value = _entry(record, key, path)
    if not isinstance(value, Opaque) or value.name not in _BY_COLUMN or not isinstance(value.state, dict):
        return csr_matrix(np.atleast_2d(as_array(record, key, path)))
    state = {f"{key}.{name}": part for name, part in value.state.items()}
    data, indices, indptr, shape = (as_array(state, f"{key}.{name}", path) for name in ("data", "indices", "indptr", "_shape"))
    try:
        return _assemble(data, indices, indptr, shape, by_column=_BY_COLUMN[value.name])
    except ValueError as error:
        raise DatasetError(f"{path}: '{key}' is a damaged sparse matrix ({error}); download the file again.") from error


def _assemble(data: Array, indices: Array, indptr: Array, shape: Array, *, by_column: bool) -> csr_matrix:
    """Every index is checked: scipy's compressed formats trust theirs and would write anywhere."""
    bounds = indptr.astype(np.int64)
    counts = np.diff(bounds)
    if data.ndim != 1 or data.shape != indices.shape or bounds.ndim != 1 or shape.shape != (2,):
        raise ValueError("its parts do not fit together")
    if len(bounds) == 0 or bounds[0] != 0 or bounds[-1] != len(data) or (counts < 0).any() or len(counts) != shape[int(by_column)]:
        raise ValueError("its runs do not add up")
    runs = np.repeat(np.arange(len(counts)), counts)
    places = (indices.astype(np.int64), runs) if by_column else (runs, indices.astype(np.int64))
    return coo_matrix((data.astype(np.float64), places), shape=(int(shape[0]), int(shape[1]))).tocsr()


def _entry(record: Mapping[str, Any], key: str, path: Path) -> Any:
    if key not in record:
        raise DatasetError(f"{path}: has no '{key}'; expected a FLAME file as it was downloaded from {SITE}.")
    return record[key]


def _plain(value: Any) -> Any:
    """Take chumpy's wrapper off."""
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, Opaque) and (value.module, value.name) == ("chumpy.ch", "Ch") and isinstance(value.state, dict):
        return _plain(value.state.get("x"))
    return value
