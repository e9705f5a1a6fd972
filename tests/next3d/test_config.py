"""Configurations: JSON and back, presets, and what is refused."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, dataclass, fields, is_dataclass, replace
from typing import Any, Literal

import pytest

from dnnlib.errors import ConfigError
from next3d.config import (
    PRESETS,
    DiscriminatorConfig,
    GeneratorConfig,
    ModelConfig,
    MouthConfig,
    RenderConfig,
    SuperresConfig,
    from_json,
    preset,
    to_json,
)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_survive_json(name):
    config = preset(name)
    text = to_json(config)
    assert from_json(ModelConfig, text) == config
    assert from_json(GeneratorConfig, to_json(config.generator)) == config.generator
    assert to_json(from_json(ModelConfig, text)) == text


def test_json_holds_every_field():
    def names(kind: Any) -> dict[str, Any]:
        return {f.name: names(default) if is_dataclass(default := getattr(kind, f.name)) else None for f in fields(kind)}

    def keys(value: Any) -> Any:
        return {name: keys(inner) if isinstance(inner, dict) else None for name, inner in value.items()}

    config = preset("tiny")
    assert keys(json.loads(to_json(config))) == names(config)


def test_missing_fields_take_their_defaults():
    assert from_json(GeneratorConfig, "{}") == GeneratorConfig()
    assert from_json(GeneratorConfig, '{"mouth": {"margin": 1.5}}').mouth == MouthConfig(margin=1.5)


@dataclass(frozen=True, kw_only=True)
class Everything:
    """One field of every kind that configurations use."""

    needed: str
    count: int = 1
    share: float = 0.5
    flag: bool = False
    limit: float | None = None
    pair: tuple[int, int] = (1, 2)
    names: tuple[str, ...] = ()
    choice: Literal["a", "b"] = "a"


@pytest.mark.parametrize(
    "values",
    [
        {"needed": "x"},
        {"needed": "x", "count": 3, "share": 2, "flag": True, "limit": 1.5, "pair": [3, 4], "names": ["p", "q"], "choice": "b"},
        {"needed": "x", "limit": None, "names": []},
    ],
    ids=["defaults", "all", "empty"],
)
def test_every_kind_of_field_is_read(values):
    config = from_json(Everything, json.dumps(values))
    for name, value in values.items():
        assert getattr(config, name) == (tuple(value) if isinstance(value, list) else value)
    assert from_json(Everything, to_json(config)) == config


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"count": "3"}, "Everything.count"),
        ({"count": 3.5}, "Everything.count"),
        ({"count": True}, "Everything.count"),
        ({"count": None}, "Everything.count"),
        ({"share": "0.5"}, "Everything.share"),
        ({"share": False}, "Everything.share"),
        ({"flag": 1}, "Everything.flag"),
        ({"limit": "none"}, "Everything.limit"),
        ({"pair": [1]}, "Everything.pair"),
        ({"pair": [1, "2"]}, r"Everything.pair\[1\]"),
        ({"pair": 3}, "Everything.pair"),
        ({"names": "abc"}, "Everything.names"),
        ({"names": [1]}, r"Everything.names\[0\]"),
        ({"choice": "c"}, "Everything.choice"),
        ({"choice": ["a"]}, "Everything.choice"),
        ({"needed": None}, "Everything.needed"),
        ({"extra": 1}, "extra"),
    ],
    ids=str,
)
def test_wrong_types_and_unknown_fields_are_named(values, named):
    with pytest.raises(ConfigError, match=named):
        from_json(Everything, json.dumps({"needed": "x"} | values))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "not a valid configuration"),
        ("{", "not a valid configuration"),
        ("[]", "expected an object"),
        ("null", "expected an object"),
        ("{}", "needed"),
    ],
)
def test_text_that_is_no_configuration_is_refused(text, named):
    with pytest.raises(ConfigError, match=named):
        from_json(Everything, text)


def test_nested_mistakes_are_named_with_their_place():
    with pytest.raises(ConfigError, match=r"ModelConfig\.generator\.render\.ray_end"):
        from_json(ModelConfig, '{"generator": {"render": {"ray_end": "far"}}}')
    with pytest.raises(ConfigError, match=r"GeneratorConfig\.mouth: expected an object"):
        from_json(GeneratorConfig, '{"mouth": "front"}')


def test_unknown_preset_lists_the_known_ones():
    with pytest.raises(ConfigError, match="official-1024") as caught:
        preset("official-1024")
    assert all(name in str(caught.value) for name in PRESETS)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: MouthConfig(variant="both"), "variant"),  # type: ignore[arg-type]
        (lambda: MouthConfig(resolution=48), "power of two"),
        (lambda: MouthConfig(resolution=64, output_resolution=32), "output_resolution"),
        (lambda: MouthConfig(bottleneck=64, resolution=64), "bottleneck"),
        (lambda: MouthConfig(variant="triplane", residual=True, resolution=32, output_resolution=64), "residual"),
        (lambda: RenderConfig(ray_start=3.0, ray_end=2.0), "ray_start"),
        (lambda: RenderConfig(ray_start=-1.0), "ray_start"),
        (lambda: RenderConfig(coarse_samples=1), "samples"),
        (lambda: RenderConfig(fine_samples=-1), "samples"),
        (lambda: RenderConfig(box_warp=0.0), "box_warp"),
        (lambda: RenderConfig(feature_channels=2), "feature_channels"),
        (lambda: GeneratorConfig(plane_resolution=100), "plane_resolution"),
        (lambda: GeneratorConfig(image_resolution=4), "image_resolution"),
        (lambda: GeneratorConfig(image_resolution=1024), "factor of 2 or 4"),
        (lambda: GeneratorConfig(superres=SuperresConfig(input_resolution=100)), "factor of 2 or 4"),
        (lambda: GeneratorConfig(plane_resolution=32, mouth=MouthConfig(blend_bottleneck=16)), "output_resolution"),
        (lambda: GeneratorConfig(plane_resolution=64, mouth=MouthConfig(blend_bottleneck=64)), "blend_bottleneck"),
        (lambda: DiscriminatorConfig(image_resolution=96), "image_resolution"),
        (lambda: DiscriminatorConfig(group_size=0), "group_size"),
        (lambda: replace(preset("tiny"), discriminator=DiscriminatorConfig()), "must agree"),
    ],
)
def test_sizes_that_cannot_work_are_refused(make, named):
    with pytest.raises(ConfigError, match=named):
        make()


def test_nothing_edits_a_configuration():
    with pytest.raises(FrozenInstanceError):
        preset("tiny").generator.latent_size = 3  # type: ignore[misc]


def test_sizes_of_the_released_network():
    """Issue: texture, planes and blending at 256², 32 channels per plane, mouth 64², rendering 64² with 48+48 samples, output 512²."""
    generator = preset("official-512").generator
    assert (generator.texture_resolution, generator.plane_resolution, generator.plane_channels) == (256, 256, 32)
    assert (generator.mouth.variant, generator.mouth.resolution) == ("front", 64)
    render = generator.render
    assert (render.resolution, render.coarse_samples, render.fine_samples, generator.image_resolution) == (64, 48, 48, 512)


def test_sizes_of_the_paper():
    """256 channels per plane; the crops of all three planes as one 64² image, encoded down to 8², residual blocks."""
    generator = preset("paper-512").generator
    assert generator.plane_channels == 256
    mouth = generator.mouth
    assert (mouth.variant, mouth.resolution, mouth.output_resolution, mouth.bottleneck) == ("triplane", 64, 64, 8)
    assert mouth.residual_blocks > 0
