"""Single controls of a head at an end of their range, to be shown beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from next3d.head.model import HeadModel, HeadParams
from next3d.media.motions import GAZE_PITCH, GAZE_YAW, JAW_OPEN, open_jaw, set_expressions, turn_eyes


@dataclass(frozen=True)
class Control:
    """One thing that a relaxed head does."""

    label: str
    """A word or two. Left and right are as one sees them in the picture, so "look left" turns the eyes to the person's right."""
    pitch: float = 0.0
    """Of the eyes, radians; positive is down."""
    yaw: float = 0.0
    """Of the eyes, radians; positive is the person's left."""
    jaw: float = 0.0
    """Radians."""
    expression: Mapping[str, float] = field(default_factory=dict)
    """Strengths by name, as `set_expressions` takes them."""

    def known_to(self, head: HeadModel) -> bool:
        """Whether the head has one of the expressions that this needs."""
        names = {name.removesuffix("Left").removesuffix("Right") for name in head.expression_names}
        return not self.expression or bool(names & set(self.expression))

    def pose(self, head: HeadModel, rest: HeadParams) -> HeadParams:
        """Relaxed heads doing this."""
        turned = turn_eyes(head, open_jaw(rest, self.jaw), self.pitch, self.yaw)
        return replace(turned, expression=set_expressions(head, turned.expression, self.expression))


EYE_CONTROLS = (
    Control("relaxed"),
    Control("look left", yaw=-GAZE_YAW),
    Control("look right", yaw=GAZE_YAW),
    Control("look up", pitch=-GAZE_PITCH),
    Control("look down", pitch=GAZE_PITCH),
    Control("lids half shut", expression={"eyeBlink": 0.5}),
    Control("lids shut", expression={"eyeBlink": 1.0}),
)
# Strengths are the largest that synthetic portraits have.
MOUTH_CONTROLS = (
    Control("jaw 1/3", jaw=JAW_OPEN / 3),
    Control("jaw 2/3", jaw=JAW_OPEN * 2 / 3),
    Control("jaw open", jaw=JAW_OPEN),
    Control("smile", expression={"mouthSmile": 1.0, "cheekSquint": 0.6}),
    Control("pucker", expression={"mouthPucker": 0.8}),
    Control("frown", expression={"mouthFrown": 0.6, "browDown": 0.8}),
    Control("brows up", expression={"browInnerUp": 0.8, "browOuterUp": 0.9}),
)
