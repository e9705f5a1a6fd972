"""Published EG3D and Next3D networks: read without running anything inside, and rebuilt so that they give the same images."""

from next3d.official.build import load_official_state

__all__ = ["load_official_state"]
