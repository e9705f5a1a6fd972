"""The tri-plane's axes: the only definition of plane order and sign (EG3D, Sec. 3).

A point of the cube [-box/2, box/2]^3 is looked up at column = first axis, row = second axis of each plane; both grow with the
coordinate. The rasteriser draws in these coordinates and the sampler reads in them, so the two cannot disagree.
"""

from __future__ import annotations

PLANE_AXES = ((0, 1), (0, 2), (2, 1))
"""front (x, y), top (x, z), side (z, y)."""
FRONT, TOP, SIDE = range(3)
