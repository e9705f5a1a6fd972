"""Videos written frame by frame: H.264 in MP4, which every browser and player opens. Memory does not grow with the length."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from dnnlib.errors import UserError
from dnnlib.files import atomic_write
from next3d.media.images import Pixels

RATE_FACTOR = 18
"""H.264's constant rate factor: 0 is lossless, 23 the encoder's default; at 18 a difference is hard to see."""


class VideoWriter:
    """Sends frames to ffmpeg as they come. Get one from `open_video`, which also takes care of the file.

    The first frame fixes the size. An odd size is extended by one repeated row or column, because 4:2:0 colour needs even ones.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._path = path
        self._fps = fps
        self._shape: tuple[int, ...] | None = None
        self._encoder: Generator[None, object, None] | None = None
        self.count = 0

    def write(self, frame: Pixels) -> None:
        """Append one frame [H, W, 3] uint8.

        Raises:
            ValueError: not uint8 RGB, or another size than the first frame's.
            UserError: ffmpeg stopped; the message ends with its own words.
        """
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(f"video frame: {frame.dtype} {frame.shape}, expected uint8 [H, W, 3]")
        if self._shape is not None and frame.shape != self._shape:
            raise ValueError(f"video frame {self.count}: shape {frame.shape}, the first frame had {self._shape}")
        even = np.pad(frame, [(0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)], mode="edge")
        try:
            if self._encoder is None:
                self._encoder = self._start(even.shape[1], even.shape[0])
            self._encoder.send(np.ascontiguousarray(even))
        except OSError as error:
            raise UserError(f"{self._path.parent}: ffmpeg could not write the video: {error}") from error
        self._shape = frame.shape
        self.count += 1

    def _start(self, width: int, height: int) -> Generator[None, object, None]:
        """Start the encoder; it waits for raw frames of this size."""
        import imageio_ffmpeg

        encoder = imageio_ffmpeg.write_frames(
            str(self._path),
            (width, height),
            fps=self._fps,
            codec="libx264",
            pix_fmt_in="rgb24",
            pix_fmt_out="yuv420p",
            quality=None,  # replaced by the rate factor
            macro_block_size=2,
            ffmpeg_log_level="error",
            output_params=["-crf", str(RATE_FACTOR), "-movflags", "+faststart", "-f", "mp4"],
        )
        encoder.send(None)
        return encoder

    def close(self) -> None:
        """Wait until the encoder has written its last frame."""
        if self._encoder is not None:
            self._encoder.close()
            self._encoder = None


@contextmanager
def open_video(path: str | Path, fps: float) -> Iterator[VideoWriter]:
    """A video file that is whole or absent: written under a temporary name and renamed when the block ends well.

    Args:
        path: the `.mp4` to write; missing folders are created.
        fps: frames per second.

    Raises:
        ValueError: the block ended without a frame.
    """
    with atomic_write(path) as temporary:
        writer = VideoWriter(temporary, fps)
        try:
            yield writer
            if writer.count == 0:
                raise ValueError(f"{path}: a video needs at least one frame")
        finally:
            writer.close()
