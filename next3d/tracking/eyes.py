"""Eyes of fitted heads: the gaze, then the lids, which follow it."""

from __future__ import annotations

from torch import Tensor

from next3d.head.model import LinearHeadModel
from next3d.tracking.gaze import GazeSettings, fit_gaze
from next3d.tracking.lids import LidSettings, fit_lids
from next3d.tracking.types import HeadFit


def fit_eyes(
    head: LinearHeadModel, fit: HeadFit, points: Tensor, gaze: GazeSettings | None = None, lids: LidSettings | None = None
) -> HeadFit:
    """Gaze and lids of N fitted heads from the detector's points [N, 478, 3] (unit coordinates); see `fit_gaze` and `fit_lids`."""
    return fit_lids(head, fit_gaze(head, fit, points, gaze), points, lids)
