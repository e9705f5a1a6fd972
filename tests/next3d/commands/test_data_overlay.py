"""`next3d data overlay`: a picture of what tracking finds, or a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mediapipe")

Run = Callable[..., tuple[int, str]]


def test_a_portrait_is_drawn_on(run: Run, tmp_path: Path) -> None:
    data = pytest.importorskip("skimage.data")
    photo = data.astronaut()[:300, 80:380]
    Image.fromarray(photo).save(tmp_path / "photo.png")
    code, _ = run("data", "overlay", tmp_path / "photo.png", "--out", tmp_path / "new" / "drawn.jpg")
    assert code == 0
    with Image.open(tmp_path / "new" / "drawn.jpg") as image:
        drawn = np.asarray(image).astype(int)
    assert image.format == "JPEG"
    plain = np.asarray(Image.fromarray(photo).resize(drawn.shape[1::-1])).astype(int)
    changed = np.abs(drawn - plain).max(axis=2) > 24
    scale = drawn.shape[0] / 300
    face = changed[int(90 * scale) : int(160 * scale), int(110 * scale) : int(180 * scale)]
    assert face.mean() > 0.5, "the mesh lies on the face"
    assert changed[int(260 * scale) :, int(220 * scale) :].mean() < 0.05, "and nowhere else"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{tmp}/grey.png", "--out", "{tmp}/out.png"), "no face"),
        (("{tmp}/text.png", "--out", "{tmp}/out.png"), "text.png"),
        (("{tmp}/missing.png", "--out", "{tmp}/out.png"), "missing.png"),
        (("{tmp}/grey.png", "--out", "{tmp}/out.gif"), ".png or .jpg"),
        (("{tmp}/grey.png", "--out", "{tmp}/text.png/out.png"), "text.png"),
        (("{tmp}/grey.png", "--out", "{tmp}/out.png", "--head", "nobody"), "nobody"),
    ],
    ids=["no face", "no picture", "missing", "suffix", "folder is a file", "unknown head"],
)
def test_one_line_and_nothing_written(run: Run, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    Image.new("RGB", (200, 200), "grey").save(tmp_path / "grey.png")
    (tmp_path / "text.png").write_text("not a picture")
    code, said = run("data", "overlay", *(argument.format(tmp=tmp_path) for argument in arguments))
    assert code == 2
    assert message in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grey.png", "text.png"]


@pytest.mark.parametrize(("faces", "drawn_on"), [("all", True), ("largest", False)])
def test_all_faces_are_drawn_also_a_small_one_beside_a_large_one(run: Run, tmp_path: Path, faces: str, drawn_on: bool) -> None:
    person = Image.fromarray(pytest.importorskip("skimage.data").astronaut())
    photo = Image.new("RGB", (1600, 800), "grey")
    photo.paste(person.resize((800, 800)), (0, 0))
    photo.paste(person.resize((360, 360)), (1200, 400))
    photo.save(tmp_path / "two.png")
    code, _ = run("data", "overlay", tmp_path / "two.png", "--out", tmp_path / "drawn.png", "--faces", faces, "--plain")
    assert code == 0
    with Image.open(tmp_path / "drawn.png") as image:
        drawn = np.asarray(image.convert("RGB").resize(photo.size)).astype(int)
    changed = np.abs(drawn - np.asarray(photo)).max(axis=2) > 24
    assert changed[180:210, 335:365].mean() > 0.5, "the large face"
    assert (changed[476:496, 1348:1368].mean() > 0.5) == drawn_on, "the small one"
