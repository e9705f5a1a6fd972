"""Head models: shape, expression and pose to a mesh."""

from __future__ import annotations

from next3d.head.model import HeadModel


def load_head(name: str = "procedural") -> HeadModel:
    """The head model of that name, or a rigid one of a mesh file.

    Args:
        name: "procedural", the default head (its arrays are built once per process), or the path of an .obj file, which gives a head
            without shape and expression directions, whose landmarks must come with the data.

    Raises:
        ConfigError: an unknown name, or a path that leads nowhere.
        DatasetError: an .obj file that cannot be read.
    """
    if name == "procedural":
        from next3d.head.procedural import procedural_head

        return procedural_head()
    if name.lower().endswith(".obj"):
        from next3d.head.rigid import rigid_head

        return rigid_head(name)
    from dnnlib.errors import ConfigError

    raise ConfigError(f"head model {name!r} is not known; expected 'procedural' or the path of an .obj file")
