"""Photos of every kind come out upright, in sRGB; what cannot be read is said with the file's name."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from dnnlib.errors import UserError
from next3d.tracking import read
from next3d.tracking.read import read_noted, read_photo

ORIENTATION = 0x0112
TURNS = {
    # EXIF orientation: how the stored picture comes from the upright one
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 3),
}


def picture(height: int = 24, width: int = 40) -> np.ndarray:
    """Smooth colours that differ in all four corners."""
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * x / (width - 1), 255 * y / (height - 1), 128 + 0 * x], axis=2).round().astype(np.uint8)


def png_file(header: bytes, data: bytes) -> bytes:
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part)) for kind, part in chunks
    )


def close(found: np.ndarray, expected: np.ndarray, tolerance: float) -> bool:
    return found.shape == expected.shape and np.abs(found.astype(float) - expected).mean() <= tolerance


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_exif_rotation_is_undone(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"photo{suffix}"
    Image.fromarray(np.ascontiguousarray(TURNS[orientation](picture()))).save(path, exif=exif, quality=95)
    assert close(read_photo(path), picture(), 2 if suffix == ".jpg" else 0)


def test_damaged_exif_data_do_not_lose_the_photo(tmp_path):
    path = tmp_path / "photo.jpg"
    Image.fromarray(picture()).save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12", quality=95)
    assert close(read_photo(path), picture(), 2)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_become_white(tmp_path, mode):
    path, image = tmp_path / "photo.png", Image.new("RGBA", (8, 8), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (4, 0, 8, 8))
    if mode == "P":
        image = Image.new("P", (8, 8), 1)
        image.putpalette([9, 9, 9, 0, 0, 0])
        image.paste(0, (4, 0, 8, 8))
        image.save(path, transparency=0)
    else:
        image.convert(mode).save(path)
    photo = read_noted(path)
    assert (photo.pixels[:, :4] == 0).all()
    assert (photo.pixels[:, 4:] == 255).all()
    assert "transparent parts on white" in photo.notes


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_pictures_get_three_channels(tmp_path, mode):
    Image.new("L", (5, 3), 255).convert(mode).save(tmp_path / "photo.png")
    assert (read_photo(tmp_path / "photo.png") == np.full((3, 5, 3), 255)).all()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_16_bit_levels_are_scaled_not_cut_off(tmp_path, suffix):
    levels = np.linspace(0, 65535, 256).round().astype(np.uint16)[None].repeat(4, axis=0)
    path = tmp_path / f"photo{suffix}"
    Image.fromarray(levels).save(path)
    assert np.abs(read_photo(path)[0, :, 0].astype(int) - np.arange(256)).max() <= 1


def test_16_bit_colours_are_scaled(tmp_path):
    levels = np.linspace(0, 65535, 16).astype(">u2")
    row = b"\0" + np.stack([levels, levels[::-1], levels], axis=1).tobytes()
    (tmp_path / "photo.png").write_bytes(png_file(struct.pack(">IIBBBBB", 16, 2, 16, 2, 0, 0, 0), row * 2))
    expected = levels.astype(float) / 257
    assert np.abs(read_photo(tmp_path / "photo.png")[0, :, 1] - expected[::-1]).max() <= 1


@pytest.mark.parametrize("top", [1.0, 255.0])
def test_float_levels(tmp_path, top):
    Image.fromarray(np.linspace(0, top, 16, dtype=np.float32)[None]).save(tmp_path / "photo.tif")
    assert np.abs(read_photo(tmp_path / "photo.tif")[0, :, 0] - np.linspace(0, 255, 16)).max() <= 1


def cmyk_file(path: Path) -> None:
    Image.fromarray(picture()).convert("CMYK").save(path, quality=95)


def test_cmyk_as_adobe_writes_it(tmp_path):
    cmyk_file(tmp_path / "photo.jpg")
    assert b"Adobe" in (tmp_path / "photo.jpg").read_bytes()
    assert close(read_photo(tmp_path / "photo.jpg"), picture(), 6)


def test_cmyk_that_is_not_inverted(tmp_path):
    """Without Adobe's marker the levels are amounts of ink; the file is made by inverting the picture and cutting the marker out."""
    path = tmp_path / "photo.jpg"
    inverted = Image.fromarray(255 - np.asarray(Image.fromarray(picture()).convert("CMYK")), mode="CMYK")
    inverted.save(path, quality=95)
    data = path.read_bytes()
    at = data.index(b"\xff\xee")
    path.write_bytes(data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :])
    assert close(read_photo(path), picture(), 6)


def test_colour_profiles_are_applied(tmp_path):
    """Lab is the one other colour space of which Pillow makes a profile; what is stored in it looks the same."""
    lab = ImageCms.createProfile("LAB", 5000)
    there = ImageCms.profileToProfile(Image.fromarray(picture()), ImageCms.createProfile("sRGB"), lab, outputMode="LAB")
    assert there is not None
    there.save(tmp_path / "photo.tif", icc_profile=ImageCms.ImageCmsProfile(lab).tobytes())
    assert close(read_photo(tmp_path / "photo.tif"), picture(), 6)


def test_damaged_and_unfitting_profiles_are_left_out(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "damaged.png", icc_profile=b"no profile at all")
    photo = read_noted(tmp_path / "damaged.png")
    assert close(photo.pixels, picture(), 0)
    assert "its colour profile is damaged and was left out" in photo.notes
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    Image.fromarray(picture()).save(tmp_path / "other.png", icc_profile=profile)
    assert close(read_photo(tmp_path / "other.png"), picture(), 0)


def test_of_several_frames_the_first_counts(tmp_path):
    frames = [Image.new("RGB", (6, 6), color) for color in ("red", "blue", "green")]
    frames[0].save(tmp_path / "photo.gif", save_all=True, append_images=frames[1:])
    photo = read_noted(tmp_path / "photo.gif")
    assert photo.notes == ("the first of several frames or pages",)
    assert np.abs(photo.pixels[0, 0].astype(int) - (255, 0, 0)).max() < 4


def test_large_photos_are_reduced_while_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(read, "KEPT_PIXELS", 400)
    for suffix in (".jpg", ".png"):
        Image.fromarray(picture(48, 80)).save(tmp_path / f"photo{suffix}", quality=95)
        photo = read_noted(tmp_path / f"photo{suffix}")
        assert photo.pixels.shape[0] * photo.pixels.shape[1] <= 400
        assert abs(photo.pixels.shape[1] / photo.pixels.shape[0] - 80 / 48) < 0.1
        assert "reduced from 0 megapixels" in photo.notes
    monkeypatch.setattr(read, "MOST_PIXELS", 1000)
    with pytest.raises(UserError, match=r"photo\.png: .*too many"):
        read_photo(tmp_path / "photo.png")


def broken_files() -> dict[str, tuple[bytes, str]]:
    """Name: content, and what is said about it."""
    jpeg, png = io.BytesIO(), io.BytesIO()
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    noise.save(jpeg, "JPEG")
    noise.save(png, "PNG")
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 100
    return {
        "empty.jpg": (b"", "empty"),
        "cut.jpg": (jpeg.getvalue()[:-1500], "cut off"),
        "cut.png": (png.getvalue()[:-3000], "cut off"),
        "start.jpg": (jpeg.getvalue()[:20], "not a picture|cut off"),
        "text.png": (b"this is only text\n" * 20, "not a picture"),
        "program.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
        "photo.heic": (heic, "pillow-heif|cut off"),
        "renamed.jpg": (heic, "pillow-heif|cut off"),
        "bomb.png": (png_file(struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0), b""), "megapixels"),
        "zeros.tif": (b"II*\0" + b"\xff" * 60, "not a picture|cut off"),
    }


@pytest.mark.parametrize("name", broken_files())
def test_what_cannot_be_read_is_said(tmp_path, name):
    content, said = broken_files()[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        read_photo(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_missing_files_and_folders_are_said(tmp_path):
    for path in (tmp_path / "none.jpg", tmp_path):
        with pytest.raises(UserError, match="cannot be opened"):
            read_photo(path)


def test_every_cut_of_a_file_is_survived(tmp_path):
    """Wherever a file ends, and whatever bit is wrong, there is a picture or a sentence."""
    path, rng = tmp_path / "photo.jpg", np.random.default_rng(1)
    for kind in ("JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP"):
        stream = io.BytesIO()
        Image.fromarray(picture()).save(stream, kind)
        whole = stream.getvalue()
        for _ in range(12):
            damaged = bytearray(whole[: rng.integers(1, len(whole))] if rng.random() < 0.5 else whole)
            damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
            path.write_bytes(damaged)
            try:
                found, said = read_photo(path), ""
            except UserError as error:
                found, said = picture(), str(error)
            assert found.shape[2] == 3
            assert not said or "photo.jpg" in said
