"""Published files: nothing is fetched unasked, and only whole and right files get their name."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from dnnlib.cache import PublishedFile, cache_folder, find_published
from dnnlib.errors import UserError

CONTENT = b"weights" * 1000


class Answers(BaseHTTPRequestHandler):
    """A web server with a good file, a short one and a wrong one."""

    def do_GET(self) -> None:
        if self.path not in ("/good", "/short", "/wrong"):
            self.send_error(404)
            return
        body = {"/good": CONTENT, "/short": CONTENT[:100], "/wrong": CONTENT[::-1]}[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    web = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=web.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{web.server_port}"
    web.shutdown()
    web.server_close()


@pytest.fixture
def file(server: str) -> PublishedFile:
    digest = hashlib.sha256(CONTENT).hexdigest()[:8]
    return PublishedFile(
        title="the weights", name="w.pth", sha256=digest, url=f"{server}/good", size="7 kB", option="--weights", command="next3d weigh"
    )


def test_nothing_is_fetched_unasked(file, tmp_path):
    with pytest.raises(UserError) as caught:
        find_published(file, folder=tmp_path / "cache")
    for part in (str(tmp_path / "cache" / "w.pth"), file.url, "'next3d weigh --download'", "--weights", "7 kB"):
        assert part in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_fetched_once(file, tmp_path):
    said: list[str] = []
    path = find_published(file, download=True, folder=tmp_path, say=said.append)
    assert path.read_bytes() == CONTENT
    gone = replace(file, url="http://127.0.0.1:9/gone")
    assert find_published(gone, download=True, folder=tmp_path, say=said.append) == path
    assert len(said) == 1


@pytest.mark.parametrize(
    ("where", "complaint"),
    [("/short", "broke off after 100 of 7000"), ("/wrong", "SHA-256"), ("/missing", "404"), (None, "cannot be fetched")],
    ids=["short", "wrong", "missing", "no server"],
)
def test_failures_leave_nothing_behind(file, server, tmp_path, where, complaint):
    bad = replace(file, url="http://127.0.0.1:9/x" if where is None else f"{server}{where}")
    with pytest.raises(UserError, match=complaint) as caught:
        find_published(bad, download=True, folder=tmp_path)
    assert "--weights" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_another_file_under_the_name_is_refused(file, tmp_path):
    (tmp_path / "w.pth").write_bytes(b"something else")
    with pytest.raises(UserError, match="delete it"):
        find_published(file, download=True, folder=tmp_path)


@pytest.mark.parametrize(
    ("environment", "platform", "expected"),
    [
        ({"NEXT3D_CACHE": "/a/b"}, "linux", Path("/a/b")),
        ({"XDG_CACHE_HOME": "/x"}, "linux", Path("/x/next3d")),
        ({}, "linux", Path.home() / ".cache" / "next3d"),
        ({}, "darwin", Path.home() / "Library" / "Caches" / "next3d"),
        ({"LOCALAPPDATA": "/local"}, "win32", Path("/local/next3d")),
    ],
)
def test_folder(environment, platform, expected):
    assert cache_folder(environment, platform) == expected
