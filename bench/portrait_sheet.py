"""Synthetic portraits in one picture, as docs/data.md shows them.

python -m bench.portrait_sheet docs/images/portraits.jpg [--seed 77]
python -m bench.portrait_sheet docs/images/portraits-wide.jpg --wide
python -m bench.portrait_sheet docs/images/portraits-truth.jpg --truth
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw

from dnnlib.files import atomic_write
from next3d.head import load_head
from next3d.head.model import HeadModel
from next3d.synthetic.portrait import Portrait
from next3d.synthetic.render import render_sample
from next3d.synthetic.sampling import PORTRAIT_CAMERAS, WIDE_CAMERAS
from next3d.synthetic.writer import encode_normals

Pixels = npt.NDArray[np.uint8]

COLUMNS, ROWS = 5, 4
RESOLUTION = 192
TRUTH_SAMPLES = 4
QUALITY = 88
_CLASS_COLORS = np.array(
    [[30, 30, 40], [222, 170, 140], [250, 250, 250], [120, 20, 30], [235, 225, 190], [90, 60, 40], [80, 120, 190], [240, 190, 60]], np.uint8
)
"""Of the segmentation's classes, in their order."""


def sheet(head: HeadModel, seed: int, *, wide: bool = False) -> Image.Image:
    """The first samples of a seed, as they come."""
    cameras = WIDE_CAMERAS if wide else PORTRAIT_CAMERAS
    images = [render_sample(head, seed, index, RESOLUTION, cameras=cameras).image for index in range(COLUMNS * ROWS)]
    return _tiled(np.stack(images).reshape(ROWS, COLUMNS, RESOLUTION, RESOLUTION, 3))


def truth_sheet(head: HeadModel, seed: int) -> Image.Image:
    """Each row a sample: picture, segmentation, depth, normals, 68 landmarks (white) over 478 (green)."""
    samples = [render_sample(head, seed, index, RESOLUTION, further=True) for index in range(TRUTH_SAMPLES)]
    return _tiled(np.stack([np.stack(_truths(sample)) for sample in samples]))


def _truths(sample: Portrait) -> list[Pixels]:
    assert sample.further is not None
    there = sample.depth > 0
    low, high = sample.depth[there].min(), sample.depth[there].max()
    grey = np.where(there, 255 - 225 * (sample.depth - low) / (high - low), 0).astype(np.uint8)
    marked = Image.fromarray(sample.image // 2)
    draw = ImageDraw.Draw(marked)
    for points, color, radius in ((sample.further.dense_2d, (90, 255, 120), 0.5), (sample.landmarks_2d, (255, 255, 255), 1.0)):
        for x, y in points.tolist():
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)
    depth = np.repeat(grey[..., None], 3, axis=2)
    return [sample.image, _CLASS_COLORS[sample.segmentation], depth, encode_normals(sample.further.normals), np.asarray(marked)]


def _tiled(tiles: Pixels) -> Image.Image:
    """Pictures [rows, columns, H, H, 3] as one."""
    rows, columns, size = tiles.shape[:3]
    return Image.fromarray(tiles.transpose(0, 2, 1, 3, 4).reshape(rows * size, columns * size, 3))


def main() -> None:
    """Render and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="JPEG to write")
    parser.add_argument("--seed", type=int, default=77)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--wide", action="store_true", help="cameras as `next3d data synthetic --wide` has them")
    kind.add_argument("--truth", action="store_true", help="a few samples with their ground truth")
    options = parser.parse_args()
    torch.set_num_threads(1)
    head = load_head("procedural")
    picture = truth_sheet(head, options.seed) if options.truth else sheet(head, options.seed, wide=options.wide)
    with atomic_write(options.file) as temporary:
        picture.save(temporary, format="JPEG", quality=QUALITY, optimize=True)


if __name__ == "__main__":
    main()
