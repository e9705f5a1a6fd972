"""Films of every time base come out frame by frame at a constant rate; any part has the same frames; what is broken is said."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from dnnlib.errors import UserError
from next3d.tracking.films import Film, open_film

WIDTH, HEIGHT, BITS = 128, 64, 8


def ffmpeg(*arguments: str, data: bytes = b"") -> None:
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", *arguments], input=data, check=True)


def numbered(count: int) -> bytes:
    """Frames that show their number as bright and dark bars."""
    frames = np.full((count, HEIGHT, WIDTH, 3), 20, dtype=np.uint8)
    for number in range(count):
        for bit in range(BITS):
            if number >> bit & 1:
                frames[number, 8:-8, 4 + 15 * bit : 14 + 15 * bit] = 235
    return frames.tobytes()


def number(frame: np.ndarray) -> int:
    """What `numbered` wrote."""
    return sum(1 << bit for bit in range(BITS) if frame[HEIGHT // 2, 9 + 15 * bit].mean() > 128)


def film(path: Path, count: int, *options: str, rate: str = "25") -> Path:
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", rate, "-i", "-")
    ffmpeg(*raw, "-pix_fmt", "yuv420p", *options, str(path), data=numbered(count))
    return path


@pytest.mark.parametrize(
    ("name", "rate", "options"),
    [
        ("plain.mp4", "25", ("-bf", "3")),
        ("ntsc.mkv", "30000/1001", ()),
        ("odd.mp4", "23.7", ("-video_track_timescale", "90001")),
        ("late.mkv", "10", ("-output_ts_offset", "5.3")),
        ("stream.ts", "25", ()),
        ("old.avi", "25", ("-c:v", "mpeg4", "-q:v", "2")),
    ],
)
def test_films_of_constant_rate_pass_frame_by_frame(tmp_path, name, rate, options):
    found = open_film(film(tmp_path / name, 60, *options, rate=rate))
    numerator, _, denominator = rate.partition("/")
    assert found.fps == pytest.approx(float(numerator) / float(denominator or 1), rel=1e-4)
    assert (found.width, found.height, found.notes) == (WIDTH, HEIGHT, ())
    assert found.count == 60
    assert [number(frame) for frame in found.frames()] == list(range(60))


def test_any_part_has_the_same_frames(tmp_path):
    """Also where reading begins in the middle of the file, between key frames."""
    found = open_film(film(tmp_path / "long.mp4", 200, "-g", "40", "-bf", "2"))
    whole = [number(frame) for frame in found.frames()]
    for start, stop in ((0, 3), (50, 53), (119, 123), (198, 300)):
        assert [number(frame) for frame in found.frames(start, stop)] == whole[start:stop], (start, stop)


def test_variable_rate_is_resampled_without_drift(tmp_path):
    """Pictures at 30 a second with pauses: frame k shows the picture that is on screen at k / fps."""
    shift = "setpts='(N+4*floor(N/9)+0.01)/30/TB'"  # after each nine pictures, four are missing
    found = open_film(film(tmp_path / "pauses.mp4", 180, "-vf", shift, "-fps_mode", "passthrough", "-g", "30", rate="30"))
    assert found.fps == pytest.approx(30)
    assert "variable frame rate, resampled to 30 a second" in found.notes
    times = np.array([n + 4 * (n // 9) for n in range(180)])
    expected = [int(np.searchsorted(times, k, side="right")) - 1 for k in range(int(times[-1]) + 1)]
    assert [number(frame) for frame in found.frames()] == expected
    assert [number(frame) for frame in found.frames(200, 220)] == expected[200:220]


def test_another_rate(tmp_path):
    path = film(tmp_path / "plain.mp4", 60)
    half = open_film(path, fps=12.5)
    assert half.count == 30
    shown = [number(frame) for frame in half.frames()]
    assert np.abs(np.array(shown) - 2 * np.arange(len(shown))).max() <= 1


def test_rotation_and_pixels_that_are_not_square(tmp_path):
    path = film(tmp_path / "plain.mp4", 5)
    ffmpeg("-display_rotation", "90", "-i", str(path), "-c", "copy", str(tmp_path / "turned.mp4"))
    turned = open_film(tmp_path / "turned.mp4")
    assert (turned.width, turned.height) == (HEIGHT, WIDTH)
    back = [number(np.rot90(frame, -1)) for frame in turned.frames()]
    assert back == list(range(5))
    wide = open_film(film(tmp_path / "wide.mp4", 5, "-vf", "setsar=2"))
    assert (wide.width, wide.height) == (2 * WIDTH, HEIGHT)
    assert next(iter(wide.frames())).shape == (HEIGHT, 2 * WIDTH, 3)


def test_one_picture_is_a_film(tmp_path):
    found = open_film(film(tmp_path / "one.mp4", 1))
    assert found.count == 1
    assert len(list(found.frames())) == 1


def test_films_that_are_cut_off(tmp_path):
    """What is there comes out; a container that keeps its index at the end is lost."""
    whole = film(tmp_path / "whole.mp4", 100).read_bytes()
    (tmp_path / "end.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"end\.mp4.*damaged"):
        open_film(tmp_path / "end.mp4")
    ffmpeg("-i", str(tmp_path / "whole.mp4"), "-c", "copy", str(tmp_path / "whole.mkv"))
    whole = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "half.mkv").write_bytes(whole[: len(whole) // 2])
    found = open_film(tmp_path / "half.mkv")
    shown = [number(frame) for frame in found.frames()]
    assert any(note.startswith("damaged") for note in found.notes)
    assert 10 < len(shown) < 100
    assert shown[:-5] == list(range(len(shown) - 5))  # of the last ones some are missing


def test_what_is_no_film_is_said(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("hello\n" * 50)
    ffmpeg("-f", "lavfi", "-i", "sine=d=0.2", str(tmp_path / "sound.mp4"))
    said = {"empty.mp4": "empty", "text.mp4": "damaged", "sound.mp4": "only sound", "none.mp4": "no such file"}
    for name, words in said.items():
        with pytest.raises(UserError, match=words) as caught:
            open_film(tmp_path / name)
        assert name in str(caught.value)


def test_time_stamps_that_cannot_be_meant(tmp_path):
    jump = "setpts='(N+if(gt(N,10),900000,0))/25/TB'"  # ten hours without a picture
    found = open_film(film(tmp_path / "jump.mkv", 20, "-vf", jump, "-fps_mode", "passthrough"))
    assert any("time stamps are damaged" in note for note in found.notes)
    assert [number(frame) for frame in found.frames()] == list(range(20))


def test_leaving_early_stops_the_reader(tmp_path):
    frames = open_film(film(tmp_path / "plain.mp4", 60)).frames()
    assert number(next(frames)) == 0
    frames.close()
    with pytest.raises(StopIteration):
        next(frames)


def test_a_film_that_vanishes_is_said(tmp_path):
    with pytest.raises(UserError, match="no frame can be decoded"):
        next(Film(tmp_path / "gone.mp4", WIDTH, HEIGHT, 25, 10).frames())
