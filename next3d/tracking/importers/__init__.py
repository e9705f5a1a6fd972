"""Heads that other trackers fitted, read from their parameter files instead of being fitted here (docs/tracking.md).

DECA, EMOCA and VHAP describe FLAME heads, so the head model must be a user's FLAME. Nothing in their files is run.

    heads = open_heads(folder, "deca", head)
    imported = heads.find("portrait.jpg")             # None where there is nothing for it
    fit = place_in_crop(head, imported, frame, face.points)   # as `fit_heads` returns it
"""

from __future__ import annotations

from next3d.tracking.importers.catalogue import FORMATS, Format, HeadFiles, open_heads
from next3d.tracking.importers.place import ImportedHead, Pinhole, WeakPerspective, place_in_crop

__all__ = ["FORMATS", "Format", "HeadFiles", "ImportedHead", "Pinhole", "WeakPerspective", "open_heads", "place_in_crop"]
