"""The operators' benchmarks run, compare and write what they say."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner

import bench.ops
import bench.rasterize
from bench.report import Report


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_report_prints_conditions_and_writes_figures(tmp_path, capsys):
    report = Report("example")
    report.add("speed_ms", 1.25, bar="< 2", note="4 views")
    report.finish(tmp_path / "figures.json")
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("bench.example", "speed_ms", "1.25", "< 2", "4 views", "torch: ", "commit: ", "cpu: "))
    written = json.loads((tmp_path / "figures.json").read_text())
    assert written["figures"] == {"speed_ms": 1.25}
    assert set(written) == {"bench", "machine", "versions", "figures"}


def test_operators_are_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(bench.ops, "BATCH", 1)
    monkeypatch.setattr(bench.ops, "POINTS", 64)
    path = tmp_path / "figures.json"
    assert CliRunner().invoke(bench.ops.main, ["--quick", "--json", str(path)], catch_exceptions=False).exit_code == 0
    figures = json.loads(path.read_text())["figures"]
    assert all(figures[f"{name}_ref_ratio"] > 0 and figures[f"{name}_ms"] > 0 for name in bench.ops.cases())


def test_bench_sphere_is_closed_and_faces_outward():
    """Every edge is shared by two triangles that run along it in opposite directions; normals point away from the centre."""
    vertices, faces = bench.rasterize.sphere(9, 12)
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    assert {tuple(edge) for edge in edges.tolist()} == {tuple(edge) for edge in edges.flip(1).tolist()}
    corners = vertices[faces]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert ((normals * corners.mean(dim=1)).sum(-1) > 0).all()
