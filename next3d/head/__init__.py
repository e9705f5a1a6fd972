"""Head models: shape, expression and pose to a mesh."""

from __future__ import annotations

from next3d.head.model import HeadModel


def load_head(name: str = "procedural") -> HeadModel:
    """The head model of that name.

    Args:
        name: "procedural", the default head; its arrays are built once per process.

    Raises:
        ConfigError: an unknown name.
    """
    from dnnlib.errors import ConfigError

    if name == "procedural":
        from next3d.head.procedural import procedural_head

        return procedural_head()
    raise ConfigError(f"head model {name!r} is not known; the models are: procedural")
