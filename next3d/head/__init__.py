"""Head models: shape, expression and pose to a mesh."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from next3d.head.model import HeadModel

FLAME_VARIABLE = "NEXT3D_FLAME"
"""Environment variable with the folder of FLAME's files; commands set it for themselves from --flame."""


def load_head(name: str = "procedural") -> HeadModel:
    """The head model of that name, or the one in a file or folder.

    Args:
        name: "procedural", the default head (its arrays are built once per process); "flame", the FLAME model to which the environment
            variable NEXT3D_FLAME leads; the path of FLAME's folder or .pkl file; or the path of an .obj file, which gives a head
            without shape and expression directions, whose landmarks must come with the data.

    Raises:
        ConfigError: an unknown name, a path that leads nowhere, or no FLAME where it should be.
        DatasetError: a file that is damaged or is not what it should be.
    """
    if not name:
        from dnnlib.errors import ConfigError

        raise ConfigError("the network names no head model; pose it with meshes of its own, or name a head model that has its triangles")
    if name == "procedural":
        from next3d.head.procedural import procedural_head

        return procedural_head()
    if name == "flame" or name.lower().endswith(".pkl") or Path(name).is_dir():
        from next3d.head.flame import load_flame

        return load_flame(None if name == "flame" else name)
    if name.lower().endswith(".obj"):
        from next3d.head.rigid import rigid_head

        return rigid_head(name)
    from dnnlib.errors import ConfigError

    raise ConfigError(
        f"head model {name!r} is not known; expected 'procedural', 'flame', or the path of FLAME's folder or .pkl file or of an .obj file"
    )
