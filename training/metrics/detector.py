"""Feature detectors of FID, KID, precision and recall: weights from a file, in an architecture of ours. Nothing in a file is executed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dnnlib.cache import PublishedFile
from dnnlib.errors import CheckpointError
from dnnlib.files import sha256
from torch_utils.torch_files import read_torch_file
from training.metrics.inception import STEM_CHANNELS, InceptionV3

INCEPTION = PublishedFile(
    title="FID's InceptionV3",
    name="pt_inception-2015-12-05-6726825d.pth",
    sha256="6726825d",
    url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    size="95 MB",
    option="--detector-path",
    command="next3d metrics",
)
_ADVICE = f"give {INCEPTION.name} ({INCEPTION.url})"
_UNUSED = ("fc.", "AuxLogits.")
"""The classifier, and the one that only training uses."""


@dataclass(frozen=True)
class Detector:
    """Turns pictures into feature vectors."""

    network: InceptionV3
    device: torch.device
    digest: str
    """SHA-256 of the weights' file: features of different detectors must not be compared."""

    @property
    def features(self) -> int:
        """Length of a feature vector."""
        return self.network.features

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Features [N, D] float32 on the CPU of images [N, 3, H, H] in [-1, 1]."""
        return self.network(images.to(self.device, torch.float32)).float().cpu()


def load_detector(path: Path | str, device: torch.device | str = "cpu") -> Detector:
    """Read InceptionV3's weights: a `.safetensors` file or a state dict that torch saved, under the published names.

    Raises:
        CheckpointError: no such file, damaged, a program instead of weights, or another architecture.
    """
    tensors = _read(Path(path))
    used = {name: value for name, value in tensors.items() if not name.startswith(_UNUSED) and not name.endswith("num_batches_tracked")}
    stem = used.get("Conv2d_1a_3x3.conv.weight")
    if stem is None or stem.ndim != 4 or not 1 <= len(stem) <= STEM_CHANNELS:
        raise CheckpointError(
            f"{path}: has no tensor 'Conv2d_1a_3x3.conv.weight' of an InceptionV3; give {INCEPTION.name} ({INCEPTION.url})."
        )
    with torch.random.fork_rng(devices=[]):
        network = InceptionV3(width=len(stem) / STEM_CHANNELS)
    wanted = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    for name, value in wanted.items():
        if name not in used or used[name].shape != value.shape:
            found = "is missing" if name not in used else f"has shape {list(used[name].shape)}"
            raise CheckpointError(
                f"{path}: tensor {name!r} {found}, expected {list(value.shape)}: not FID's InceptionV3 ({INCEPTION.url})."
            )
    network.load_state_dict({name: used[name].float() for name in wanted}, strict=False)
    chosen = torch.device(device)
    return Detector(network.to(chosen).eval().requires_grad_(False), chosen, sha256(path))


def _read(path: Path) -> dict[str, Tensor]:
    """Tensors of either kind of file."""
    if path.suffix != ".safetensors":
        try:
            return read_torch_file(path)
        except CheckpointError as error:
            programs = "detectors that come with StyleGAN (.pt, .pkl) are programs and never run"
            raise CheckpointError(f"{str(error).rstrip('.')}; {programs}: {_ADVICE}.") from error
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error}); fetch it again") from error
