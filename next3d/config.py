"""What networks are made of: frozen configurations, presets, and their JSON form. Does not import torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from dnnlib.errors import ConfigError

LABEL_SIZE = 25
"""Of a camera: 16 numbers of camera-to-world and 9 of normalised intrinsics, both row-major (EG3D's data sets)."""

_Config = TypeVar("_Config")


def _check_power_of_two(name: str, value: int, *, at_least: int) -> None:
    if value < at_least or value & (value - 1):
        raise ConfigError(f"{name}={value}, expected a power of two of at least {at_least}")


@dataclass(frozen=True, kw_only=True)
class MappingConfig:
    """Latent to styles."""

    layers: int = 2
    """Fully connected layers."""
    lr_multiplier: float = 0.01
    """Slower learning of these layers (StyleGAN, Sec. 4)."""
    pose_conditioning: bool = True
    """Condition on the camera label (EG3D, Sec. 4.4)."""
    label_scale: float = 1.0
    """Factor of the label before it is embedded; 0 hides it."""
    expression_size: int = 0
    """Numbers of expression and jaw, after those of the camera, that the mapping is conditioned on, too; 0 for none."""


@dataclass(frozen=True, kw_only=True)
class MouthConfig:
    """The teeth-completing module."""

    variant: Literal["front", "triplane"] = "front"
    """"front": the front plane's crop, then a second style-UNet over the whole front plane, as released; "triplane": all three planes
    cropped, concatenated and completed at once, as in the paper (supplement, Fig. 4)."""
    resolution: int = 64
    """The crop's size."""
    output_resolution: int = 64
    """Size at which the completed mouth is generated before it is pasted back; at least `resolution`."""
    bottleneck: int = 8
    """Resolution at which the decoder starts."""
    residual_blocks: int = 0
    """Residual blocks at the bottleneck."""
    residual: bool = False
    """Add the networks' output to their input instead of replacing it; small networks learn faster. Needs output_resolution ==
    resolution with "triplane"."""
    margin: float = 1.2
    """Side of the box in units of the lips' extent."""
    channel_base: int = 32768
    """Channels at resolution r are channel_base / r, at most channel_max."""
    channel_max: int = 512
    """Upper limit of channels."""
    blend_bottleneck: int = 32
    """Where the blending network's decoder starts ("front" only)."""
    blend_channel_base: int = 32768
    """Channels of the blending network at resolution r are this / r ("front" only)."""

    def __post_init__(self) -> None:
        if self.variant not in ("front", "triplane"):
            raise ConfigError(f"mouth: variant={self.variant!r}, expected 'front' or 'triplane'")
        for name in ("resolution", "output_resolution", "bottleneck", "blend_bottleneck"):
            _check_power_of_two(f"mouth: {name}", getattr(self, name), at_least=4)
        if not self.bottleneck < self.resolution <= self.output_resolution:
            raise ConfigError(
                f"mouth: bottleneck={self.bottleneck}, resolution={self.resolution}, output_resolution={self.output_resolution}; "
                "need bottleneck < resolution <= output_resolution"
            )
        if self.residual and self.variant == "triplane" and self.output_resolution != self.resolution:
            raise ConfigError(
                f"mouth: a residual needs output_resolution == resolution, got {self.output_resolution} and {self.resolution}"
            )


@dataclass(frozen=True, kw_only=True)
class RenderConfig:
    """Volume rendering. Distances are in world units."""

    resolution: int = 64
    """Neural rendering resolution."""
    coarse_samples: int = 48
    """Stratified samples per ray."""
    fine_samples: int = 48
    """Samples drawn where the first pass found matter; 0 skips the second pass."""
    ray_start: float = 2.25
    """Distance from the camera at which sampling begins."""
    ray_end: float = 3.3
    """Distance at which it ends."""
    box_warp: float = 1.0
    """Side of the cube that the planes span."""
    decoder_hidden: int = 64
    """Hidden units of the decoder."""
    feature_channels: int = 32
    """Rendered features; the first three are the raw image."""

    def __post_init__(self) -> None:
        if not 0 <= self.ray_start < self.ray_end:
            raise ConfigError(f"render: ray_start={self.ray_start}, ray_end={self.ray_end}; need 0 <= start < end")
        if self.coarse_samples < 2 or self.fine_samples < 0:
            raise ConfigError(f"render: {self.coarse_samples} coarse and {self.fine_samples} fine samples; need at least 2 and 0")
        if self.box_warp <= 0 or self.feature_channels < 3 or self.resolution < 1:
            raise ConfigError(
                f"render: box_warp={self.box_warp}, feature_channels={self.feature_channels}, resolution={self.resolution}; "
                "need a positive box, three channels or more, and at least one pixel"
            )


@dataclass(frozen=True, kw_only=True)
class SuperresConfig:
    """Features to the final image."""

    input_resolution: int = 128
    """Features are resized to this first; the image is 2 or 4 times as large."""
    channels: tuple[int, int] = (128, 64)
    """Channels of the two blocks."""
    antialias: bool = True
    """Antialiased resizing of the features."""
    noise: bool = False
    """Per-pixel noise in the two blocks."""
    clamp: float | None = 256.0
    """Limit of activations, for half precision."""


GeneratorKind = Literal["next3d", "released-next3d", "released-eg3d"]
"""Ours, or networks that behave as the released ones do (`docs/official.md`)."""


@dataclass(frozen=True, kw_only=True)
class TriplaneConfig:
    """A generator of tri-planes."""

    kind: GeneratorKind = "next3d"
    """Whose conventions the network was trained with."""
    image_resolution: int = 512
    """Final image."""
    latent_size: int = 512
    """Z."""
    style_size: int = 512
    """W."""
    label_size: int = LABEL_SIZE
    """Camera label."""
    plane_resolution: int = 256
    """P, tri-plane."""
    plane_channels: int = 32
    """C, per plane and of the texture."""
    channel_base: int = 32768
    """Channels of texture and static networks at resolution r are channel_base / r, at most channel_max."""
    channel_max: int = 512
    """Upper limit of channels."""
    mapping: MappingConfig = field(default_factory=MappingConfig)
    render: RenderConfig = field(default_factory=RenderConfig)
    superres: SuperresConfig = field(default_factory=SuperresConfig)
    clamp: float | None = None
    """Limit of activations outside super-resolution."""

    def __post_init__(self) -> None:
        for name in ("image_resolution", "plane_resolution"):
            _check_power_of_two(f"generator: {name}", getattr(self, name), at_least=8)
        if self.image_resolution not in (2 * self.superres.input_resolution, 4 * self.superres.input_resolution):
            raise ConfigError(
                f"super-resolution: from {self.superres.input_resolution} to {self.image_resolution}; "
                "the two blocks can only give a factor of 2 or 4"
            )


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig(TriplaneConfig):
    """A generator of heads that a mesh moves."""

    texture_resolution: int = 256
    """T, neural texture."""
    head: str = "procedural"
    """Head model that poses it; empty when the data set brings its own meshes."""
    mouth: MouthConfig = field(default_factory=MouthConfig)
    hull_density: float = 0.0
    """Start training with this density where the mesh is (`next3d.hull`); 0 starts with fog, as the paper does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_power_of_two("generator: texture_resolution", self.texture_resolution, at_least=8)
        mouth, planes = self.mouth, self.plane_resolution
        if mouth.output_resolution > planes:
            raise ConfigError(f"mouth: output_resolution={mouth.output_resolution}, expected at most plane_resolution={planes}")
        if mouth.variant == "front" and mouth.blend_bottleneck >= planes:
            raise ConfigError(f"mouth: blend_bottleneck={mouth.blend_bottleneck}, expected less than plane_resolution={planes}")


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Dual, deformation-aware discriminator (EG3D, Sec. 4.3; Next3D, Sec. 3.4)."""

    image_resolution: int = 512
    """Image it judges."""
    label_size: int = LABEL_SIZE
    """Camera label it is conditioned on; 0 for none."""
    channel_base: int = 32768
    """Channels at resolution r are channel_base / r, at most channel_max."""
    channel_max: int = 512
    """Upper limit of channels."""
    mesh_image: bool = True
    """Look at the rendering of the posed mesh, too."""
    mapping_layers: int = 8
    """Layers of the label's embedding."""
    group_size: int = 4
    """Samples over which the minibatch standard deviation is taken (ProGAN, Sec. 3)."""
    strided_groups: bool = False
    """Groups of samples that lie apart, as in released networks, instead of side by side."""
    clamp: float | None = 256.0
    """Limit of activations."""

    def __post_init__(self) -> None:
        _check_power_of_two("discriminator: image_resolution", self.image_resolution, at_least=8)
        if self.group_size < 1:
            raise ConfigError(f"discriminator: group_size={self.group_size}, expected at least 1")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A generator and the discriminator that trains it."""

    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)

    def __post_init__(self) -> None:
        if self.generator.image_resolution != self.discriminator.image_resolution:
            raise ConfigError(
                f"model: the generator makes {self.generator.image_resolution}² images, "
                f"the discriminator reads {self.discriminator.image_resolution}²; they must agree"
            )


def to_json(config: Any) -> str:
    """A configuration as JSON text."""
    return json.dumps(asdict(config), indent=2, sort_keys=True)


def from_json(kind: type[_Config], text: str) -> _Config:
    """Read back what `to_json` wrote; unknown fields and wrong types are a `ConfigError`, missing fields take their defaults."""
    try:
        return _build(kind, json.loads(text), kind.__name__)
    except (json.JSONDecodeError, TypeError) as error:
        raise ConfigError(f"{kind.__name__}: not a valid configuration ({error})") from error


def read_generator_config(text: str) -> TriplaneConfig:
    """The configuration of a generator of any kind, from what `to_json` wrote; raises ConfigError as `from_json`."""
    try:
        kind = json.loads(text).get("kind", "next3d")
    except (json.JSONDecodeError, AttributeError) as error:
        raise ConfigError(f"generator: not a valid configuration ({error})") from error
    return from_json(TriplaneConfig if kind == "released-eg3d" else GeneratorConfig, text)


def _build(kind: type[_Config], values: Any, where: str) -> _Config:
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: expected an object with fields, found {type(values).__name__}")
    hints, known = get_type_hints(kind), {f.name for f in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - known):
        raise ConfigError(f"{where}: unknown field {unknown[0]!r}; this version knows {', '.join(sorted(known))}")
    return kind(**{name: _read(hints[name], value, f"{where}.{name}") for name, value in values.items()})


def _read(hint: Any, value: Any, where: str) -> Any:
    """A JSON value as what a field's type hint says: a configuration, a literal, a tuple, an optional or a plain type."""
    origin, options = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        return _build(hint, value, where)  # type: ignore[arg-type]
    if origin in (Union, UnionType) and type(None) in options:
        return None if value is None else _read(options[0], value, where)
    if origin is tuple and isinstance(value, list):
        kinds = [options[0]] * len(value) if Ellipsis in options else list(options)
        if len(kinds) == len(value):
            return tuple(_read(part, entry, f"{where}[{index}]") for index, (part, entry) in enumerate(zip(kinds, value, strict=True)))
    elif value in options if origin is Literal else type(value) in ((int, float) if hint is float else (hint,)):
        return value
    expected = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
    raise ConfigError(f"{where}: found {json.dumps(value)}, expected {expected}")


def official_512() -> ModelConfig:
    """Sizes of the released Next3D network."""
    mouth = MouthConfig(variant="front", resolution=64, output_resolution=256, bottleneck=4, blend_bottleneck=32)
    superres = SuperresConfig(input_resolution=128, channels=(256, 128))
    return ModelConfig(generator=GeneratorConfig(mouth=mouth, superres=superres))


def paper_512() -> ModelConfig:
    """Sizes of the paper: 256 channels per plane, all three planes completed at the mouth."""
    base = official_512()
    mouth = MouthConfig(variant="triplane", resolution=64, output_resolution=64, bottleneck=8, residual_blocks=3)
    return replace(base, generator=replace(base.generator, plane_channels=256, mouth=mouth))


def demo_64() -> ModelConfig:
    """Small enough to learn faces on two CPU cores in minutes; every part of the method is there."""
    generator = GeneratorConfig(
        image_resolution=64,
        latent_size=64,
        style_size=64,
        texture_resolution=64,
        plane_resolution=64,
        plane_channels=8,
        channel_base=1024,
        channel_max=64,
        mouth=MouthConfig(
            resolution=16,
            output_resolution=16,
            bottleneck=4,
            residual=True,
            channel_base=512,
            channel_max=32,
            blend_bottleneck=16,
            blend_channel_base=512,
        ),
        render=RenderConfig(resolution=32, coarse_samples=8, fine_samples=8, decoder_hidden=32, feature_channels=16),
        superres=SuperresConfig(input_resolution=32, channels=(32, 16), clamp=None),
        hull_density=2.0,
    )
    discriminator = DiscriminatorConfig(image_resolution=64, channel_base=2048, channel_max=64, mapping_layers=2, clamp=None)
    return ModelConfig(generator=generator, discriminator=discriminator)


def demo_128() -> ModelConfig:
    """The shipped generator: small enough for two CPU cores to train within hours, with every part of the method."""
    generator = GeneratorConfig(
        image_resolution=128,
        latent_size=64,
        style_size=128,
        texture_resolution=128,
        plane_resolution=128,
        plane_channels=12,
        channel_base=2048,
        channel_max=128,
        mouth=MouthConfig(
            resolution=32,
            output_resolution=32,
            bottleneck=4,
            residual=True,
            channel_base=1024,
            channel_max=64,
            blend_bottleneck=32,
            blend_channel_base=1024,
        ),
        # A box that just holds head and shoulders in view: as many samples and pixels of a plane fall on the face as a larger one's would.
        render=RenderConfig(
            resolution=64,
            coarse_samples=8,
            fine_samples=8,
            ray_start=2.3,
            ray_end=3.1,
            box_warp=0.8,
            decoder_hidden=32,
            feature_channels=16,
        ),
        superres=SuperresConfig(input_resolution=64, channels=(32, 16), clamp=None),
        hull_density=2.0,
    )
    discriminator = DiscriminatorConfig(image_resolution=128, channel_base=2048, channel_max=128, mapping_layers=2, clamp=None)
    return ModelConfig(generator=generator, discriminator=discriminator)


def tiny() -> ModelConfig:
    """The smallest network with every part, for tests."""
    generator = GeneratorConfig(
        image_resolution=32,
        latent_size=16,
        style_size=16,
        texture_resolution=16,
        plane_resolution=32,
        plane_channels=4,
        channel_base=128,
        channel_max=8,
        mouth=MouthConfig(
            resolution=16,
            output_resolution=16,
            bottleneck=4,
            residual=True,
            channel_base=128,
            channel_max=8,
            blend_bottleneck=8,
            blend_channel_base=128,
        ),
        render=RenderConfig(resolution=16, coarse_samples=4, fine_samples=4, decoder_hidden=16, feature_channels=8),
        superres=SuperresConfig(input_resolution=16, channels=(8, 8), clamp=None),
    )
    discriminator = DiscriminatorConfig(image_resolution=32, channel_base=256, channel_max=16, mapping_layers=1, clamp=None)
    return ModelConfig(generator=generator, discriminator=discriminator)


PRESETS: dict[str, Callable[[], ModelConfig]] = {
    "official-512": official_512,
    "paper-512": paper_512,
    "demo-128": demo_128,
    "demo-64": demo_64,
    "tiny": tiny,
}


def preset(name: str) -> ModelConfig:
    """A named configuration."""
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]()
