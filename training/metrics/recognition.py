"""A face-recognition network of the ArcFace family, whose weights are brought as a file (Deng et al. 2019, "ArcFace", Sec. 3.1).

IResNet: a residual network for crops of 112 x 112 pixels whose blocks are batch norm, convolution, batch norm, PReLU, convolution, batch
norm (Han et al. 2017). Names and shapes of its tensors are those of the published `backbone.pth` files; depth and widths
are read off them. Files are read without running anything of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dnnlib.errors import CheckpointError
from torch_utils.torch_files import read_torch_file

CROP = 112
"""Side of the crops in pixels."""
TEMPLATE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
"""Where ArcFace's published alignment puts eyes, tip of the nose and corners of the mouth in a crop: pixels, picture's left first."""
STAGES = 4
COUNTER = "num_batches_tracked"
"""Batch norms count steps of training; some files leave that out."""


class Block(nn.Module):
    """One residual block; the second convolution has the stride."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        inner = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(inner)) + self.downsample(x)


class IResNet(nn.Module):
    """Crops to embeddings whose angle says how alike two faces are."""

    def __init__(self, blocks: Sequence[int], widths: Sequence[int], embedding: int) -> None:
        """`blocks` and `widths` of the four stages: (3, 4, 14, 3) and (64, 128, 256, 512) for 50 layers, (3, 13, 30, 3) for 100."""
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.prelu = nn.PReLU(widths[0])
        inputs = [widths[0], *widths[:-1]]
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(Block(before, width, 2), *(Block(width, width, 1) for _ in range(count - 1)))
            for before, width, count in zip(inputs, widths, blocks, strict=True)
        )
        self.bn2 = nn.BatchNorm2d(widths[-1])
        self.fc = nn.Linear(widths[-1] * (CROP // 2**STAGES) ** 2, embedding)
        self.features = nn.BatchNorm1d(embedding)

    def forward(self, crops: Tensor) -> Tensor:
        """RGB crops [N, 3, 112, 112] in [-1, 1] to embeddings [N, E] of length 1."""
        x = self.prelu(self.bn1(self.conv1(crops)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return F.normalize(self.features(self.fc(self.bn2(x).flatten(1))), dim=1)


def load_recognition(path: Path | str, device: torch.device | str = "cpu") -> IResNet:
    """The network in a file (`backbone.pth`, or the same tensors as `.safetensors`), in evaluation mode.

    Raises:
        CheckpointError: no such file, damaged, or of another architecture.
    """
    path = Path(path)
    tensors = {name.removeprefix("module."): tensor for name, tensor in _read(path).items()}
    try:
        network = _shaped_like(tensors)
        values = {name: tensor.float() for name, tensor in tensors.items() if not name.endswith(COUNTER)}
        found = network.load_state_dict(values, strict=False)
        if problem := [name for name in (*found.missing_keys, *found.unexpected_keys) if not name.endswith(COUNTER)]:
            raise ValueError(f"{problem[0]} is missing or unknown")
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: is not a face-recognition network of the kind IResNet ({str(error).splitlines()[0]}); give an ArcFace backbone.pth."
        ) from error
    return network.to(device).eval().requires_grad_(False)


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix != ".safetensors":
        return read_torch_file(path)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors ({error}); give the path of a face-recognition network.") from error


def _shaped_like(tensors: Mapping[str, Tensor]) -> IResNet:
    """A network with the depth and the widths that names and shapes tell."""
    blocks = [0] * STAGES
    for name in tensors:
        if found := re.fullmatch(r"layer([1-4])\.(\d+)\.conv1\.weight", name):
            blocks[int(found[1]) - 1] += 1
    if 0 in blocks:
        raise ValueError("it has no tensors layer1 to layer4")
    widths = [len(tensors[f"layer{stage}.0.conv1.weight"]) for stage in range(1, STAGES + 1)]
    return IResNet(blocks, widths, len(tensors["fc.weight"]))


def five_points(landmarks: Tensor) -> Tensor:
    """Eyes, tip of the nose and corners of the mouth [N, 5, 2] of 68 landmarks [N, 68, 2], picture's left first."""
    eyes = [landmarks[:, 36:42].mean(dim=1), landmarks[:, 42:48].mean(dim=1)]
    return torch.stack([*eyes, landmarks[:, 30], landmarks[:, 48], landmarks[:, 54]], dim=1)


def similarity(source: Tensor, target: Tensor) -> Tensor:
    """The turn, scale and shift [N, 2, 3] that bring points [N, K, 2] nearest to others [N, K, 2] (Umeyama 1991, in the plane)."""
    middle, goal = source.mean(dim=1, keepdim=True), target.mean(dim=1, keepdim=True)
    a, b = source - middle, target - goal
    size = a.square().sum(dim=(1, 2)).clamp_min(1e-12)
    cosine = (a * b).sum(dim=(1, 2)) / size
    sine = (a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]).sum(dim=1) / size
    turn = torch.stack([cosine, -sine, sine, cosine], dim=1).view(-1, 2, 2)
    return torch.cat([turn, goal.transpose(1, 2) - turn @ middle.transpose(1, 2)], dim=2)


def aligned_crops(images: Tensor, landmarks: Tensor) -> Tensor:
    """Crops [N, 3, 112, 112] of images [N, 3, H, H], in which the five points of landmarks [N, 68, 2] lie as in the template.

    Args:
        images: any range.
        landmarks: x right and y down in [-1, 1] across the image.
    """
    points = five_points(landmarks)
    template = (points.new_tensor(TEMPLATE) + 0.5) * (2 / CROP) - 1  # pixel centres to [-1, 1]
    back = similarity(template.expand_as(points), points)  # from crop to image
    grid = F.affine_grid(back, [len(images), 3, CROP, CROP], align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
