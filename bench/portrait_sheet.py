"""Twenty synthetic portraits in one picture, as docs/data.md shows them.

python -m bench.portrait_sheet docs/images/portraits.jpg [--seed 77]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dnnlib.files import atomic_write
from next3d.head import load_head
from next3d.synthetic.render import render_sample

COLUMNS, ROWS = 5, 4
RESOLUTION = 192
QUALITY = 88


def sheet(seed: int) -> Image.Image:
    """The first samples of a seed, as they come."""
    head = load_head("procedural")
    images = [render_sample(head, seed, index, RESOLUTION).image for index in range(COLUMNS * ROWS)]
    tiles = np.stack(images).reshape(ROWS, COLUMNS, RESOLUTION, RESOLUTION, 3).transpose(0, 2, 1, 3, 4)
    return Image.fromarray(tiles.reshape(ROWS * RESOLUTION, COLUMNS * RESOLUTION, 3))


def main() -> None:
    """Render and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="JPEG to write")
    parser.add_argument("--seed", type=int, default=77)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with atomic_write(options.file) as temporary:
        sheet(options.seed).save(temporary, format="JPEG", quality=QUALITY, optimize=True)


if __name__ == "__main__":
    main()
