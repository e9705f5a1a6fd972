"""Backends of the accelerated ops: which one runs, and how the C++ ones are built."""

from __future__ import annotations

from typing import Literal

Backend = Literal["auto", "ref", "cpu", "cuda", "nvdiffrast"]


class BackendError(RuntimeError):
    """A backend that was asked for by name is not there."""


def resolve_backend(backend: Backend, op: str, device: str) -> Literal["ref", "cpu"]:
    """The backend that will run `op` on tensors on `device` ("cpu", "cuda", ...)."""
    if backend in ("auto", "ref"):
        return "ref"
    raise BackendError(f"{op}: backend {backend!r} is not there")
