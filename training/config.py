"""What a training run does: frozen configurations, the defaults that go with each preset, and their checks.

Durations are in kimg, thousands of real images shown. Every field's source is named where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar, get_args

from dnnlib.errors import ConfigError
from next3d.config import ModelConfig, preset
from training.metrics.catalog import METRICS

_Config = TypeVar("_Config")
DensityKind = Literal["l1", "total-variation", "monotonic"]
DENSITY_KINDS: tuple[DensityKind, ...] = get_args(DensityKind)
TRANSFORMS = ("blit", "geom", "color", "noise", "cutout")
"""Groups of augmenting transforms."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Adam (Kingma and Ba 2015)."""

    lr: float
    """Step size."""
    betas: tuple[float, float] = (0.0, 0.99)
    """Decay of the two moments (StyleGAN, Karras et al. 2019)."""
    eps: float = 1e-8
    """Added to the root of the second moment."""
    multipliers: tuple[tuple[str, float], ...] = ()
    """Factors of the step size of single parts of the network, by name: (("decoder", 0.1),). 0 leaves a part as it is."""
    frozen_blocks: int = 0
    """For discriminators: so many blocks, those that see the images first, stay as they are (Mo et al. 2020, "Freeze the
    Discriminator")."""

    def __post_init__(self) -> None:
        if self.frozen_blocks < 0 or any(factor < 0 for _, factor in self.multipliers):
            raise ConfigError("optimizer: frozen_blocks and multipliers must not be negative")
        if self.lr <= 0 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"optimizer: lr={self.lr}, betas={self.betas}; need lr > 0 and betas in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Terms of both losses."""

    gamma: float = 1.0
    """Weight of R1 (Mescheder et al. 2018): gamma / 2 times the squared gradient of the logits of real images."""
    r1_interval: int = 16
    """R1 is computed in every so many steps and weighted up accordingly (StyleGAN2, Appendix B, "lazy regularization")."""
    density_weight: float = 0.25
    """Weight of the difference of raw density between random points and neighbours (EG3D, Sec. 4.4); 0 leaves it out."""
    density_interval: int = 4
    """The density term is computed in every so many steps and weighted up accordingly."""
    density_points: int = 1000
    """Points per sample."""
    density_distance: float = 0.004
    """Standard deviation of the neighbours' offset, world units; for the other kinds their distance."""
    density_kind: DensityKind = "l1"
    """What density shall not do: differ from a neighbour in a random direction ("l1"; EG3D, Sec. 4.4), vary along the axes
    ("total-variation"; Rudin et al. 1992), or become less on the way into the head, away from the viewer of the front ("monotonic")."""
    surface_weight: float = 0.0
    """Weight of the mean distance from the mesh of what rays see, over the face, world units; 0 leaves it out."""
    label_noise: float = 0.0
    """Noise on the camera labels that the discriminator sees, in standard deviations of the data set's labels (EG3D, supplement:
    against overfitting to exact poses)."""
    noise: Literal["random", "const"] = "random"
    """Per-pixel noise of the synthesis networks: fresh for every sample, or each layer's fixed map."""
    style_mixing: float = 0.0
    """Probability that later style rows come from a second latent (StyleGAN, Sec. 3.1)."""
    mismatch_weight: float = 0.0
    """Weight of real images shown with another sample's mesh, to be judged as fakes (Reed et al. 2016, matching-aware); 0 leaves it out."""
    mismatch_expression: float = 0.0
    """Share of those meshes that are the image's own head with only the expression, jaw and gaze of another: to look closely at eyes and
    mouth. Heads that are known as meshes alone cannot be taken apart, and all get another sample's."""
    mismatch_directions: float = 0.0
    """Share of those of the image's own head that keep jaw and gaze, too: only brows, lids, lips and cheeks give them away."""
    share_fakes: bool = False
    """Use one generator pass and one discriminator pass over the fakes for both networks' steps: both then see the weights from before
    the step. A quarter less work per image."""

    def __post_init__(self) -> None:
        if min(self.r1_interval, self.density_interval, self.density_points) < 1:
            raise ConfigError("loss: r1_interval, density_interval and density_points must be at least 1")
        if min(self.gamma, self.density_weight, self.density_distance, self.mismatch_weight, self.surface_weight, self.label_noise) < 0:
            raise ConfigError("loss: gamma, density_distance, label_noise and all weights must not be negative")
        for name in ("style_mixing", "mismatch_expression", "mismatch_directions"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"loss: {name}={getattr(self, name)}; expected a probability")


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """What changes while training goes on."""

    blur_sigma: float = 10.0
    """Gaussian blur of real and generated images at the start: standard deviation in pixels of a 512² image, scaled with the size."""
    blur_fade_kimg: float = 200.0
    """The blur fades out over this time; 0 never blurs (EG3D, supplement)."""
    swap_probability: float | None = 0.5
    """Probability of conditioning the generator on another sample's camera, at the end of the fade (EG3D, Sec. 4.4); None never
    does."""
    swap_fade_kimg: float = 1000.0
    """The probability falls from 1 to `swap_probability` over this time."""
    ema_kimg: float | None = None
    """Half-life of the averaged generator; None is 10 images per 32 of the batch, as StyleGAN2-ADA has it."""
    ema_rampup: float | None = 0.05
    """The half-life is at most this fraction of the images seen so far; None leaves it alone."""
    raw_initial: int | None = None
    """Neural rendering resolution at the start; None is the networks' own, for all of the run."""
    raw_final: int | None = None
    """Neural rendering resolution after the fade; None stays at the first."""
    raw_fade_kimg: float = 1000.0
    """It grows over this time, by even numbers (EG3D, supplement: training goes on at a higher resolution)."""

    def __post_init__(self) -> None:
        if self.raw_final is not None and self.raw_initial is None:
            raise ConfigError("schedule: --neural-rendering-resolution-final needs --neural-rendering-resolution-initial")
        for size in (self.raw_initial, self.raw_final):
            if size is not None and (size < 4 or size % 2):
                raise ConfigError(f"schedule: neural rendering resolution {size}, expected an even number of at least 4")
        if self.raw_initial is not None and self.raw_final is not None and self.raw_final < self.raw_initial:
            raise ConfigError(f"schedule: the neural rendering resolution grows, but {self.raw_final} is less than {self.raw_initial}")
        if self.raw_fade_kimg < 0:
            raise ConfigError("schedule: raw_fade_kimg must not be negative")
        if min(self.blur_sigma, self.blur_fade_kimg, self.swap_fade_kimg) < 0:
            raise ConfigError("schedule: blur_sigma, blur_fade_kimg and swap_fade_kimg must not be negative")
        if self.swap_probability is not None and not 0 <= self.swap_probability <= 1:
            raise ConfigError(f"schedule: --gpc-reg-prob={self.swap_probability}, expected a probability from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random transforms of what the discriminator sees (Karras et al. 2020, "Training GANs with Limited Data"; `training.augment`)."""

    kind: Literal["noaug", "ada", "fixed"] = "noaug"
    """None, with a strength that adapts itself, or with a fixed one."""
    p: float = 0.0
    """Probability of every transform: the fixed one, or the one at the start."""
    target: float = 0.6
    """Mean sign of the logits of reals that the adaptive strength aims at: 1 is a discriminator that knows all of them by heart."""
    interval: int = 4
    """The adaptive strength changes in every so many steps."""
    speed_kimg: float = 500.0
    """Time in which the adaptive strength can go from 0 to 1."""
    transforms: tuple[str, ...] = ("blit", "geom", "color")
    """Groups of transforms: pixel blits, geometry, colours, noise, cutout."""

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1 or not -1 <= self.target <= 1 or self.interval < 1 or self.speed_kimg <= 0:
            raise ConfigError(
                f"augment: p={self.p}, target={self.target}, interval={self.interval}, speed_kimg={self.speed_kimg}; "
                "need p in [0, 1], a target in [-1, 1], and the others positive"
            )
        if self.kind == "fixed" and self.p == 0:
            raise ConfigError("augment: --aug fixed needs a probability above 0, give --p")
        if self.kind == "noaug" and self.p > 0:
            raise ConfigError(f"augment: --p={self.p} does nothing without augmentation, give --aug fixed or --aug ada")
        if unknown := sorted(set(self.transforms) - set(TRANSFORMS)):
            raise ConfigError(f"augment: unknown transforms {unknown[0]!r} in --augpipe; choose from {', '.join(TRANSFORMS)}")
        if self.kind != "noaug" and not self.transforms:
            raise ConfigError("augment: --augpipe names no transforms; give some, or --aug noaug")


@dataclass(frozen=True, kw_only=True)
class PrecisionConfig:
    """Numbers in which the networks are trained; weights, optimisers and files stay float32."""

    half_type: Literal["float16", "bfloat16"] = "float16"
    """What the blocks in half precision compute with."""
    generator_blocks: int = 0
    """So many of the highest resolutions of texture, static and mouth networks compute in half precision (Karras et al. 2020,
    "Training GANs with limited data", implementation details: with clamped activations and normalised weights)."""
    superres_blocks: int = 0
    """So many of the super-resolution's two blocks, the last first."""
    discriminator_blocks: int = 0
    """So many of the discriminator's highest resolutions."""
    tf32: bool = False
    """Let matrix products and convolutions in float32 use TensorFloat-32 on GPUs that have it."""
    compile: bool = False
    """Compile the generator's synthesis networks with torch.compile."""

    def __post_init__(self) -> None:
        if min(self.generator_blocks, self.superres_blocks, self.discriminator_blocks) < 0:
            raise ConfigError("precision: numbers of blocks must not be negative")

    @property
    def half(self) -> bool:
        """Whether anything computes in half precision."""
        return max(self.generator_blocks, self.superres_blocks, self.discriminator_blocks) > 0


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What the run reads."""

    path: str
    """Folder, zip file, or URL of shards."""
    uv_mask: str | None = None
    """For mesh-only data: a grey image in UV layout, white on face and eyes."""
    holdout: int = 0
    """The last images, which training leaves out: for measuring."""
    expression: bool = False
    """Condition the generator on the heads' expression and jaw, too (with head parameters only)."""
    mirror: bool = False
    """Show every second sample, by lot, as its exact mirror image: picture, camera and head."""
    workers: int = 0
    """Loader processes; 0 reads in the training process and keeps decoded images in memory."""
    max_broken: int = 100
    """So many different samples may be damaged; another one is shown in the place of each. More end the run."""
    cache: str | None = None
    """Folder for shards that come from a URL; None is below the user's cache folder."""
    cache_gb: float = 64.0
    """The shards in it take at most so many GB (10⁹ bytes)."""

    def __post_init__(self) -> None:
        if self.max_broken < 0 or self.cache_gb <= 0:
            raise ConfigError(f"data: --max-broken={self.max_broken}, --data-cache-gb={self.cache_gb:g}; need at least 0, and more than 0")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How long, how often, and how many at a time."""

    seed: int = 0
    """Key of every random number."""
    kimg: float = 25000.0
    """Length of the run."""
    batch: int = 32
    """Samples per optimiser step, over all GPUs."""
    batch_gpu: int | None = None
    """Samples that pass through the networks at once; gradients add up over the rest. None is the whole batch."""
    tick: float = 4.0
    """A line of progress every so many kimg."""
    snap: int | None = 50
    """Snapshots and sample grids every so many ticks; None only at the end."""
    metrics: tuple[str, ...] = ()
    """Metrics computed with every snapshot: names of `training.metrics.catalog`."""
    metrics_images: int = 500
    """Generated images, and real ones, that they compare. Fewer than published figures have: good for watching a run."""
    detector_path: str | None = None
    """Weights of the feature detector of FID, KID, precision and recall; None looks into the cache of published files."""
    keep: int | None = None
    """Resume states that stay, the newest; None keeps all. Networks always stay."""
    max_skipped: int = 20
    """Steps with losses or gradients that are not finite are skipped; more than this among the last 1000 end the run."""
    wandb: str | None = None
    """Project of Weights & Biases to which figures and pictures go, too."""

    def __post_init__(self) -> None:
        if (self.keep is not None and self.keep < 1) or self.max_skipped < 0:
            raise ConfigError("run: --keep must be at least 1, --max-skipped at least 0")
        if self.batch < 1 or self.kimg <= 0 or self.tick <= 0 or (self.snap is not None and self.snap < 1):
            raise ConfigError("run: --batch, --kimg, --tick and --snap must be positive")
        if unknown := sorted(set(self.metrics) - set(METRICS)):
            raise ConfigError(f"run: unknown metric {unknown[0]!r} in --metrics; choose from {', '.join(METRICS)} or none")
        if self.batch_gpu is not None and (self.batch_gpu < 1 or self.batch % self.batch_gpu):
            raise ConfigError(f"run: --batch={self.batch} is not a multiple of --batch-gpu={self.batch_gpu}")

    @property
    def part(self) -> int:
        """Samples that pass through the networks at once."""
        return self.batch_gpu or self.batch


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A whole run."""

    preset: str
    """Name of the preset that the defaults came from."""
    model: ModelConfig
    """Both networks."""
    data: DataConfig
    """What it reads."""
    run: RunConfig = field(default_factory=RunConfig)
    """Length, batch and bookkeeping."""
    loss: LossConfig = field(default_factory=LossConfig)
    """Terms of both losses."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """Fades."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Transforms of what the discriminator sees."""
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)
    """Numbers that the networks compute with."""
    generator_optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=0.0025))
    """Generator's learning rate: EG3D."""
    discriminator_optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=0.002))
    """Discriminator's learning rate: EG3D."""

    def __post_init__(self) -> None:
        group = self.model.discriminator.group_size
        if self.run.batch % min(group, self.run.batch) or (self.run.part != self.run.batch and self.run.part % group):
            raise ConfigError(
                f"train: --batch={self.run.batch} in parts of {self.run.part}; the minibatch standard deviation needs multiples of {group}"
            )


def default_config(name: str, data: str) -> TrainConfig:
    """The configuration of a preset before any flag changes it.

    Raises:
        ConfigError: there is no such preset.
    """
    model = preset(name)
    config = TrainConfig(preset=name, model=model, data=DataConfig(path=data))
    if model.generator.image_resolution > 128:
        return config
    # Short runs of small networks: many small steps, weak R1, fades within the first few thousand images, shared passes; the
    # mismatch term makes the discriminator look at the mesh long before it would learn to by itself.
    config = replace(
        config,
        run=replace(config.run, batch=8, kimg=10, tick=1, snap=5),
        loss=replace(config.loss, gamma=0.2, mismatch_weight=0.5, share_fakes=True, density_points=256),
        schedule=replace(config.schedule, blur_fade_kimg=2, swap_fade_kimg=4, ema_kimg=1),
    )
    return _shipped_recipe(config) if name == "demo-128" else config


def _shipped_recipe(config: TrainConfig) -> TrainConfig:
    """How the shipped generator was trained (docs/demo-model.md): longer than other small networks, with a close look at eyes and mouth,
    which are a few pixels, and with coarse rays at first, when nothing fine is to be seen."""
    return replace(
        config,
        data=replace(config.data, mirror=True),
        run=replace(config.run, kimg=400, snap=10),
        loss=replace(config.loss, gamma=0.3, mismatch_weight=1.0, mismatch_expression=0.5),
        schedule=replace(config.schedule, blur_fade_kimg=10, raw_initial=32, raw_final=64, raw_fade_kimg=60),
    )


def with_changes(config: _Config, changes: Mapping[str, Any]) -> _Config:
    """A configuration with other values in some fields, written as paths: `{"loss.gamma": 3}`.

    Every section is built once with all of its changes, so that checks see the final values.

    Raises:
        ConfigError: the values do not go together.
    """
    here = {path: value for path, value in changes.items() if "." not in path}
    for section in {path.partition(".")[0] for path in changes if "." in path}:
        below = {path.partition(".")[2]: value for path, value in changes.items() if path.startswith(f"{section}.")}
        here[section] = with_changes(getattr(config, section), below)
    return replace(config, **here)  # type: ignore[type-var]
