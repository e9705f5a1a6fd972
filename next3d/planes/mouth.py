"""Teeth completion: style-UNets that invent what the mesh does not model (Next3D, Sec. 3.3; supplement, Sec. 2.2).

Two documented variants. "front" is the released network: the front plane's mouth is completed, pasted back, and a second style-UNet
runs over the whole front plane. "triplane" is the paper's: the mouth's crops of all three planes are completed as one image.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from next3d.config import GeneratorConfig
from next3d.planes.crop import MouthWindow, crop, mouth_boxes, paste
from next3d.planes.frames import FRONT, PLANE_AXES
from next3d.stylegan2.layers import Noise
from next3d.stylegan2.style_unet import StyleUNet
from next3d.types import Probe


def _mouth_unet(config: GeneratorConfig, channels: int) -> StyleUNet:
    mouth = config.mouth
    return StyleUNet(
        condition_channels=channels,
        condition_resolution=mouth.resolution,
        bottleneck=mouth.bottleneck,
        output_resolution=mouth.output_resolution,
        image_channels=channels,
        style_size=config.style_size,
        channel_base=mouth.channel_base,
        channel_max=mouth.channel_max,
        residual_blocks=mouth.residual_blocks,
        clamp=config.clamp,
    )


class FrontMouth(nn.Module):
    """Completes the mouth of the front plane, then blends it in by a second network over the whole plane."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.complete = _mouth_unet(config, config.plane_channels)
        self.blend = StyleUNet(
            condition_channels=config.plane_channels,
            condition_resolution=config.plane_resolution,
            bottleneck=config.mouth.blend_bottleneck,
            output_resolution=config.plane_resolution,
            image_channels=config.plane_channels,
            style_size=config.style_size,
            channel_base=config.mouth.blend_channel_base,
            channel_max=config.channel_max,
            clamp=config.clamp,
        )

    def forward(self, dynamic: Tensor, landmarks: Tensor, rows: Tensor, noise: Noise, probe: Probe | None = None) -> Tensor:
        """Dynamic planes [N, 3, C, P, P], landmarks [N, 68, 3], style rows [N, L, W]; returns completed planes."""
        mouth, channels = self.config.mouth, dynamic.shape[2]
        # As one image of 3 C channels, planes keep those of a pixel side by side on the way out and their gradients on the way back.
        front, others = dynamic.flatten(1, 2).split([channels, 2 * channels], dim=1)
        window = self.window(landmarks, front.shape[-1])
        opening = window.cut(front, mouth.resolution)  # [N, C, m, m]
        completed = self.complete(opening, rows, noise)
        stitched = window.put(completed, front)
        blended = self.blend(stitched, rows, noise)
        if mouth.residual:
            blended = blended + stitched
        if probe is not None:
            for name, value in (("mouth_crop", opening), ("mouth", completed), ("stitched", stitched), ("blended", blended)):
                probe(name, value)
        return torch.cat([blended, others], dim=1).unflatten(1, (3, channels))

    def window(self, landmarks: Tensor, resolution: int) -> MouthWindow:
        """Where the mouth is in a plane of `resolution` pixels."""
        config = self.config
        return mouth_boxes(landmarks, plane=FRONT, resolution=resolution, box_warp=config.render.box_warp, margin=config.mouth.margin)


class TriplaneMouth(nn.Module):
    """Completes the mouth in all three planes at once; the crops are the faces of one cube."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.complete = _mouth_unet(config, 3 * config.plane_channels)

    def forward(self, dynamic: Tensor, landmarks: Tensor, rows: Tensor, noise: Noise, probe: Probe | None = None) -> Tensor:
        """Dynamic planes [N, 3, C, P, P], landmarks [N, 68, 3], style rows [N, L, W]; returns completed planes."""
        mouth, resolution = self.config.mouth, dynamic.shape[-1]
        boxes = [
            mouth_boxes(landmarks, plane=plane, resolution=resolution, box_warp=self.config.render.box_warp, margin=mouth.margin)
            for plane in range(len(PLANE_AXES))
        ]
        opening = torch.cat([crop(dynamic[:, plane], box, mouth.resolution) for plane, box in enumerate(boxes)], dim=1)  # [N, 3C, m, m]
        completed = self.complete(opening, rows, noise)
        if mouth.residual:
            completed = completed + opening
        if probe is not None:
            probe("mouth_crop", opening)
            probe("mouth", completed)
        patches = completed.chunk(len(PLANE_AXES), dim=1)
        return torch.stack(
            [paste(patch, box, dynamic[:, plane]) for plane, (patch, box) in enumerate(zip(patches, boxes, strict=True))], dim=1
        )


def build_mouth(config: GeneratorConfig) -> FrontMouth | TriplaneMouth:
    """The variant that the configuration names."""
    return FrontMouth(config) if config.mouth.variant == "front" else TriplaneMouth(config)
