"""Videos play, have the frames that went in, and are whole or absent."""

from __future__ import annotations

from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from next3d.media.images import Pixels
from next3d.media.video import open_video


def read_video(path: Path) -> tuple[list[Pixels], dict[str, object]]:
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    width, height = meta["size"]
    return [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader], meta


def make_frames(count: int, height: int, width: int) -> list[Pixels]:
    return [np.full((height, width, 3), 20 + 200 * index // count, np.uint8) for index in range(count)]


@pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 47)], ids=["even", "odd"])
def test_what_goes_in_comes_out(tmp_path: Path, height: int, width: int):
    frames = make_frames(7, height, width)
    with open_video(tmp_path / "sub" / "a.mp4", fps=25) as video:
        for frame in frames:
            video.write(frame)
    read, meta = read_video(tmp_path / "sub" / "a.mp4")
    assert len(read) == 7
    assert meta["codec"] == "h264"
    assert str(meta["pix_fmt"]).startswith("yuv420p")
    assert meta["fps"] == 25
    assert read[0].shape == (height + height % 2, width + width % 2, 3)
    for before, after in zip(frames, read, strict=True):
        assert abs(float(before.mean()) - float(after.mean())) < 3
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["a.mp4"]


def test_a_failure_midway_leaves_nothing(tmp_path: Path):
    def fail_midway() -> None:
        with open_video(tmp_path / "a.mp4", fps=25) as video:
            video.write(make_frames(1, 32, 32)[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_midway()
    assert list(tmp_path.iterdir()) == []


def test_frames_of_another_size_or_kind_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="the first frame had"), open_video(tmp_path / "a.mp4", fps=25) as video:
        video.write(np.zeros((32, 32, 3), np.uint8))
        video.write(np.zeros((32, 34, 3), np.uint8))
    with pytest.raises(ValueError, match="uint8"), open_video(tmp_path / "a.mp4", fps=25) as video:
        video.write(np.zeros((32, 32, 3), np.float32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one frame"), open_video(tmp_path / "a.mp4", fps=25):
        pass
    assert list(tmp_path.iterdir()) == []
