"""The report: everything is counted, little is shown, nothing that a file is called can do anything, and nothing is fetched."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from next3d.head import load_head
from next3d.render.cameras import orbit_camera
from next3d.tracking import report_page
from next3d.tracking.quality import EXTREME_POSE, NO_FACE, TOO_SMALL, Measures, Quality, no_face
from next3d.tracking.report import FilmRow, ReportItem, ReportSettings, write_report
from next3d.tracking.report_pictures import with_overlay
from next3d.tracking.types import Pixels

MEASURES = Measures(
    crop=300,
    eyes=110,
    sharpness=0.1,
    yaw=0.2,
    pitch=-0.1,
    roll=0.0,
    error=0.012,
    spread=None,
    outside=0.0,
    face_outside=0.0,
    score=1.0,
    brightness=0.5,
)
NASTY = "<img src=x onerror=alert(1)>\"'</script><b>&amp;\x07\u202e\udcff.png"
VOID = {"meta", "img", "br", "line", "rect"}


class Page(HTMLParser):
    """Tags in order, with their attributes; text; whether every tag is closed by its own."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def kept(name: str, score: float = 0.5) -> ReportItem:
    return ReportItem(name=name, quality=Quality(score, (), MEASURES), jaw=0.1, blink=0.2)


def left_out(name: str, *reasons: str) -> ReportItem:
    return ReportItem(name=name, quality=Quality(0.0, reasons, MEASURES))


def picture(item: ReportItem) -> Pixels:
    return np.full((30, 40, 3), 128, dtype=np.uint8)


def test_everything_is_counted_and_named(tmp_path: Path) -> None:
    items = [
        kept("anna.jpg"),
        left_out("berta.jpg", TOO_SMALL, EXTREME_POSE),
        left_out("carla.jpg", TOO_SMALL),
        ReportItem(name="dora.jpg", quality=no_face()),
        ReportItem(name="empty.png", problem="empty.png: has no bytes; copy it again."),
        ReportItem(name="talk frame 7", film="talk", bridged=True),
    ]
    films = [FilmRow(name="talk", frames=250, fps=25, kept=249, bridged=1, turn_jitter=0.123)]
    write_report(tmp_path / "report.html", items, films=films, facts={"head": "procedural"}, pictures=picture)
    page = Page(tmp_path / "report.html")
    for expected in (
        "anna.jpg",
        "Too small: 2",
        "Extreme pose: 1",
        "No face: 1",
        "has no bytes",
        "Could not be used: 1",
        "0.123",
        "procedural",
    ):
        assert expected in page.text, expected
    assert "bridged" in page.text
    assert page.count("img") == 6  # all but the one that cannot be used; berta has two reasons


def test_names_are_text_whatever_they_are(tmp_path: Path) -> None:
    items = [kept(NASTY), left_out(NASTY, TOO_SMALL), ReportItem(name=NASTY, problem=NASTY)]
    films = [FilmRow(name=NASTY, frames=1, fps=25, kept=1, bridged=0)]
    settings = ReportSettings(title=NASTY)
    write_report(tmp_path / "report.html", items, films=films, facts={NASTY: NASTY}, pictures=picture, settings=settings)
    page = Page(tmp_path / "report.html")
    assert page.count("script") == 0
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    images = [attributes["src"] or "" for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 2
    assert all(source.startswith("data:image/jpeg;base64,") for source in images)
    assert "<img src=x onerror=alert(1)>" in page.text


def test_the_page_asks_for_nothing(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", [kept("anna.jpg"), left_out("berta.jpg", NO_FACE)], pictures=picture)
    page = Page(tmp_path / "report.html")
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        for key in ("src", "href", "action"):
            assert (attributes.get(key) or "data:").startswith("data:")
    assert not re.search(r"url\(|@import|https?://", (tmp_path / "report.html").read_text(encoding="utf-8"))
    policies = [attributes["content"] for tag, attributes in page.tags if attributes.get("http-equiv") == "Content-Security-Policy"]
    assert policies
    assert "default-src 'none'" in str(policies[0])


def test_ten_thousand_pictures_stay_one_small_page(tmp_path: Path) -> None:
    """Pictures are asked for only where they are shown: the worst, the best, and a sample that depends on the seed alone."""
    items = [kept(f"{index:05d}.jpg", index / 10_000) if index % 4 else left_out(f"{index:05d}.jpg", TOO_SMALL) for index in range(10_000)]
    asked: list[str] = []

    def counted(item: ReportItem) -> Pixels:
        asked.append(item.name)
        return picture(item)

    settings = ReportSettings()
    write_report(tmp_path / "report.html", items, pictures=counted)
    assert len(asked) == settings.best + settings.worst + settings.sample + settings.rejected
    assert {"00001.jpg", "09999.jpg"} <= set(asked)
    assert (tmp_path / "report.html").stat().st_size < 1_000_000
    text = Page(tmp_path / "report.html").text
    assert "10,000" in text
    assert "Too small: 2,500" in text
    assert "and 1,500 more" in text
    first = (tmp_path / "report.html").read_bytes()
    write_report(tmp_path / "report.html", items, pictures=counted)
    assert (tmp_path / "report.html").read_bytes() == first


def test_nothing_at_all_and_nothing_good_are_pages_too(tmp_path: Path) -> None:
    write_report(tmp_path / "none.html", [])
    write_report(tmp_path / "bad.html", [left_out("anna.jpg", NO_FACE)])
    assert "Nothing was good enough" in Page(tmp_path / "bad.html").text
    assert "Nothing was left out" in Page(tmp_path / "none.html").text


def test_histogram_bars_are_as_high_as_what_they_count() -> None:
    """Kept below, left out above; what is beyond the range counts in the outermost bars; NaN counts nowhere."""
    what = report_page.Histogram("Yaw", 0, 10, bins=5)
    svg = report_page.histogram(what, [1, 1, 3, -5, float("nan")], [3, 99])
    bars = [
        tuple(float(value) for value in bar) for bar in re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" width="[\d.]+" height="([\d.]+)"', svg)
    ]
    heights = {(round(x // 52), round(96 - y - height)): height for x, y, height in bars}
    assert heights == {(0, 0): 96, (1, 0): 32, (1, 32): 32, (4, 0): 32}


@pytest.mark.parametrize(("shape", "expected"), [((30, 40, 3), (100, 100)), ((40, 30, 3), (100, 100)), ((30, 60, 3), (200, 100))], ids=str)
def test_pictures_are_cut_to_squares(shape: tuple[int, int, int], expected: tuple[int, int]) -> None:
    html = report_page.picture(np.zeros(shape, dtype=np.uint8), 100)
    data = re.search(r"base64,([^\"]+)", html)
    assert data is not None
    assert Image.open(io.BytesIO(base64.b64decode(data[1]))).size == expected


def test_a_fitted_head_is_drawn_beside_its_crop() -> None:
    """The left half is the crop; lines appear on the right one, inside the face."""
    head = load_head("procedural")
    camera = orbit_camera(torch.zeros(1), torch.zeros(1))
    numbers = {name: getattr(head.neutral(1), name)[0].numpy() for name in ("shape", "expression", "pose", "translation", "scale")}
    shown = with_overlay(np.full((64, 64, 3), 100, dtype=np.uint8), head, {**numbers, "label": camera.to_label()[0].numpy()})
    left, right = shown[:, : shown.shape[0]], shown[:, shown.shape[0] :]
    assert left.shape == right.shape
    assert (left == 100).all()
    rows, columns = (right != 100).any(axis=2).nonzero()
    assert len(rows) > 50
    assert 0.2 < rows.mean() / len(right) < 0.8
    assert columns.mean() / len(right) == pytest.approx(0.5, abs=0.05)
