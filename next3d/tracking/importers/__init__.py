"""Heads that other trackers fitted, read from their parameter files instead of being fitted here (docs/tracking.md).

DECA, EMOCA and VHAP describe FLAME heads; the head model must be a user's FLAME. Nothing in their files is run.

    heads = open_heads(folder, "deca", head)
    imported = heads.find("portrait.jpg")             # None where there is nothing for it
    fit = imported.in_crop(frame)                     # as `fit_heads` returns it; then fit_gaze if imported.lacks_gaze, and canonical
"""

from __future__ import annotations

from next3d.tracking.importers.common import FORMATS, HeadFiles, ImportedHead, open_heads

__all__ = ["FORMATS", "HeadFiles", "ImportedHead", "open_heads"]
