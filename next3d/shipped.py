"""The network that comes with the package: what commands and `load_generator` use when nobody names another."""

from __future__ import annotations

import hashlib
from pathlib import Path

from dnnlib.errors import CheckpointError

SHIPPED_NETWORK = Path(__file__).parent / "assets" / "demo-128.safetensors"
"""Half-precision weights; the card beside it, `demo-128.md`, says what they were trained on and what they are good for."""
SHIPPED_SHA256 = "92ee5456e31bf8c7bc1062bd1bd7d37f3246c34b5857e815d95373fb17478a78"
"""Of that file."""


def shipped_network() -> Path:
    """The shipped network's file, checked against its hash.

    Raises:
        CheckpointError: it is missing, or it is another file.
    """
    return check_network(SHIPPED_NETWORK, SHIPPED_SHA256)


def check_network(path: Path, sha256: str) -> Path:
    """The same path, if the file there has this hash.

    Raises:
        CheckpointError: it is missing, or it is another file.
    """
    advice = "install the package again, or name a network (--network)"
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path}: the network that comes with the package cannot be read ({error.strerror}); {advice}") from error
    if found != sha256:
        raise CheckpointError(f"{path}: is not the network that came with the package (SHA-256 {found[:9]}…, not {sha256[:9]}…); {advice}")
    return path
