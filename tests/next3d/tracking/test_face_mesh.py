"""MediaPipe as a detector: what it needs is said."""

from __future__ import annotations

from next3d.tracking import face_mesh


def test_small_pictures_and_missing_packages_are_said(monkeypatch):
    monkeypatch.setattr(face_mesh.importlib.util, "find_spec", lambda name: None)
    assert "portraits" in face_mesh.face_mesh_problem(256)
    monkeypatch.setattr(face_mesh.importlib.util, "find_spec", lambda name: name)
    assert "128" in face_mesh.face_mesh_problem(64)
    assert face_mesh.face_mesh_problem(128) is None
