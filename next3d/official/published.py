"""Published snapshot files (`.pkl`) as networks of ours, and what is said about them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from dnnlib.errors import CheckpointError
from next3d.config import GeneratorConfig
from next3d.discriminator import Discriminator
from next3d.generator import TriplaneGenerator
from next3d.official.build import Converted, convert_network
from next3d.official.snapshot import Snapshot, read_snapshot

PICKLE_SUFFIXES = (".pkl", ".pickle")
PICKLE_START, NEWEST_PROTOCOL = 0x80, 5
"""A pickle begins with this byte and the number of its protocol."""
AVERAGE, RAW, JUDGE = "G_ema", "G", "D"
"""Networks of a snapshot: the running average of the generator, the generator itself, the discriminator."""
MAX_RESOLUTION = 1024
"""Neural rendering resolutions beyond this are not believed."""
TITLES = {AVERAGE: "generator (running average)", RAW: "generator (without averaging)", JUDGE: "discriminator"}
LICENCE = "that of the source: EG3D and Next3D weights are for non-commercial research; converting does not change it"


def is_published(path: Path | str) -> bool:
    """Whether a file is a pickle, by its name or its first bytes."""
    if Path(path).suffix.lower() in PICKLE_SUFFIXES:
        return True
    try:
        with open(path, "rb") as file:
            start = file.read(2)
    except OSError:
        return False
    return len(start) == 2 and start[0] == PICKLE_START and start[1] <= NEWEST_PROTOCOL


@dataclass(frozen=True)
class Published:
    """An open snapshot file."""

    path: Path
    snapshot: Snapshot

    @classmethod
    def open(cls, path: Path | str) -> Published:
        """Read a snapshot; nothing in it is executed.

        Raises:
            CheckpointError: not such a file, damaged, or it asks for something to be executed.
        """
        return cls(Path(path), read_snapshot(path))

    def convert(self, name: str) -> Converted:
        """One of its networks.

        Args:
            name: "G_ema", "G" or "D".

        Raises:
            CheckpointError: it is not there, or is no network that is known.
        """
        if name not in self.snapshot.networks:
            found = ", ".join(self.snapshot.networks) or "no networks"
            raise CheckpointError(f"{self.path}: holds {found}, but no {name!r}; expected a snapshot of EG3D or Next3D")
        network = self.snapshot.networks[name]
        mask, resolution = network.attributes.get("uv_face_mask"), network.attributes.get("neural_rendering_resolution")
        try:
            return convert_network(
                network.tensors,
                network.kwargs,
                uv_mask=mask if isinstance(mask, Tensor) else None,
                resolution=resolution if isinstance(resolution, int) and 0 < resolution <= MAX_RESOLUTION else None,
            )
        except CheckpointError as error:
            raise CheckpointError(f"{self.path}: {name}: {error}") from error

    def generator(self, name: str = AVERAGE) -> TriplaneGenerator:
        """One of its generators, in evaluation mode."""
        module = self.convert(name).module
        if not isinstance(module, TriplaneGenerator):
            raise CheckpointError(f"{self.path}: {name!r} is a discriminator; expected a generator")
        return module

    def discriminator(self) -> Discriminator:
        """Its discriminator, in evaluation mode."""
        module = self.convert(JUDGE).module
        if not isinstance(module, Discriminator):
            raise CheckpointError(f"{self.path}: {JUDGE!r} is a generator; expected a discriminator")
        return module

    def summary(self) -> Iterator[str]:
        """Lines for a person: the file, and what in it was left alone."""
        yield f"{self.path}: snapshot with {', '.join(self.snapshot.networks)}; SHA-256 {self.snapshot.sha256}"
        if self.snapshot.other:
            yield f"  not read: {', '.join(self.snapshot.other)}"

    def metadata(self, name: str) -> dict[str, str]:
        """What a converted file says about where it comes from."""
        return {
            "source": self.path.name,
            "source_sha256": self.snapshot.sha256,
            "source_network": name,
            "source_arguments": json.dumps(self.snapshot.networks[name].kwargs, sort_keys=True, default=str),
            "license": LICENCE,
        }


def describe(name: str, converted: Converted) -> Iterator[str]:
    """Lines for a person: what a converted network is, how large, and what the original has that nothing uses."""
    module = converted.module
    parameters = sum(value.numel() for value in module.parameters())
    resolution = module.config.image_resolution
    if isinstance(module, Discriminator):
        kind = "mesh-conditioned dual discriminator" if module.config.mesh_image else "dual discriminator"
    else:
        kind = "Next3D" if isinstance(module.config, GeneratorConfig) else "EG3D"
    yield f"{TITLES[name]}: {kind}, {resolution}x{resolution}, {_amount(parameters)} parameters"
    if converted.left:
        left = ", ".join(f"{part} {_amount(count)}" for part, count in converted.left.items())
        yield f"  left out, owned by the original and never used: {_amount(sum(converted.left.values()))} numbers ({left})"


def _amount(count: int) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
