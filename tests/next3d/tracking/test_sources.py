"""Folders, lists and zips as items: all that is there, once, under names that stay and cannot do harm."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from dnnlib.errors import UserError
from next3d.tracking.sources import Item, find_items, local_file, read_item


def photo(path: Path, color: str = "red") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), color).save(path, "PNG")
    return path


def names(items: list[Item]) -> list[str]:
    return [item.name for item in items]


def test_folders_are_searched_to_the_ground_in_a_fixed_order(tmp_path):
    for name in ("b.png", "a/z.JPG", "a/b/c.png", "talk.mp4", "notes.txt", ".hidden.png", "._b.png", ".cache/x.png", "__MACOSX/y.png"):
        photo(tmp_path / name)
    items = find_items(tmp_path)
    assert sorted(names(items)) == ["a/b/c.png", "a/z.JPG", "b.png", "talk.mp4"]
    assert names(items) == names(find_items(tmp_path))
    assert [item.kind for item in items if item.name == "talk.mp4"] == ["film"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_that_lead_in_circles_or_nowhere(tmp_path):
    photo(tmp_path / "in/a.png")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "in/link.png").symlink_to(photo(tmp_path / "elsewhere/real.png"))
    os.mkfifo(tmp_path / "in/pipe.png")
    items = {item.name: item for item in find_items(tmp_path / "in")}
    assert set(items) == {"a.png", "gone.png", "link.png"}
    with pytest.raises(UserError, match=r"gone\.png.*nowhere"):
        read_item(items["gone.png"])


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="file systems there know only valid names")
def test_names_that_are_not_utf8(tmp_path):
    photo(tmp_path / "x.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9\n.png"))
    (item,) = find_items(tmp_path)
    assert item.name == "caf\\xe9\\n.png"
    item.name.encode("utf-8")
    assert read_item(item).pixels.shape == (4, 4, 3)
    item.path.write_bytes(b"")
    with pytest.raises(UserError, match="empty") as caught:
        read_item(item)
    str(caught.value).encode("utf-8")


def test_lists_name_files_relative_to_themselves(tmp_path):
    photo(tmp_path / "sub/a.png")
    photo(tmp_path / "more/b.png")
    photo(tmp_path / "c.png")
    lines = ["\ufeff# a comment", "sub/a.png", "", "more", str(tmp_path / "c.png"), "gone.png", "../../escape.png", "sub/a.png"]
    (tmp_path / "list.txt").write_text("\n".join(lines), encoding="utf-8")
    items = find_items(tmp_path / "list.txt")
    assert names(items)[:2] == ["sub/a.png", "more/b.png"]
    assert names(items)[-1] == "sub/a (2).png"
    assert not any(name.startswith(("/", "..")) for name in names(items))
    broken = [item.name for item in items if item.problem]
    assert broken == ["gone.png", "escape.png"]
    (tmp_path / "binary.txt").write_bytes(b"\0\1\2")
    with pytest.raises(UserError, match="not a text file"):
        find_items(tmp_path / "binary.txt")


def test_zips_with_odd_names(tmp_path):
    path = tmp_path / "photos.zip"
    data = photo(tmp_path / "x.png").read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        for name in (
            "../../up.png",
            "/root.png",
            "C:\\users\\me.png",
            "a/ok.png",
            "a/._ok.png",
            "__MACOSX/a/ok.png",
            "readme.md",
            "clip.mp4",
        ):
            archive.writestr(name, data)
        archive.writestr("a/", b"")
    items = find_items(path)
    assert sorted(names(items)) == ["C_/users/me.png", "a/ok.png", "clip.mp4", "root.png", "up.png"]
    assert all(read_item(item).pixels.shape == (4, 4, 3) for item in items)
    (clip,) = [item for item in items if item.kind == "film"]
    with local_file(clip) as copy:
        assert copy.read_bytes() == data
        assert copy.suffix == ".mp4"
    assert not copy.exists()


def test_members_of_zips_that_cannot_be_read(tmp_path):
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", photo(tmp_path / "x.png").read_bytes())
    whole = path.read_bytes()
    encrypted = bytearray(whole)
    central = encrypted.index(b"PK\1\2")
    encrypted[6] |= 1
    encrypted[central + 8] |= 1
    path.write_bytes(encrypted)
    with pytest.raises(UserError, match=r"a\.png: encrypted"):
        read_item(find_items(path)[0])
    damaged = bytearray(whole)
    damaged[50] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=r"photos\.zip/a\.png: cannot be unpacked"):
        read_item(find_items(path)[0])
    path.write_bytes(whole[:-30])
    with pytest.raises(UserError, match="not a zip, or cut off"):
        find_items(path)


def test_sources_without_anything_are_said(tmp_path):
    (tmp_path / "document.pdf").write_text("x")
    for source, said in (
        (tmp_path, "no photos or films"),
        (tmp_path / "none", "no such file"),
        (tmp_path / "document.pdf", "its name is not"),
    ):
        with pytest.raises(UserError, match=said):
            find_items(source)


def test_one_file_is_a_source(tmp_path):
    (item,) = find_items(photo(tmp_path / "a.png"))
    assert (item.name, item.kind, item.member) == ("a.png", "photo", None)
