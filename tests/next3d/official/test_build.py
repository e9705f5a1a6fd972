"""Networks from official tensors: names, what is taken and left, meshes and masks, and files that are wrong on purpose."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dnnlib.errors import CheckpointError
from next3d.discriminator import Discriminator
from next3d.generator import Generator, TriplaneGenerator
from next3d.official import load_official_state
from next3d.official.build import Converted, convert_network, is_weight, official_name, own_name
from tests.models import labels
from tests.reference import tiny

Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def tensors(head) -> Tensors:
    return tiny.next3d_state(0, head.topology)


def converted(tensors: Tensors, **options: Any) -> Converted:
    return convert_network(tensors, tiny.next3d_arguments(), **options)


def generator(tensors: Tensors, **options: Any) -> Generator:
    module = converted(tensors, **options).module
    assert isinstance(module, Generator)
    return module


def test_names_have_an_inverse(tensors):
    own = {own_name(name): name for name in tensors}
    assert len(own) == len(tensors)
    assert {official_name(name) for name in own} == set(tensors)
    module = generator(tensors)
    assert {official_name(name) for name in module.state_dict()} <= set(tensors)
    judge = tiny.discriminator_state(0)
    assert {own_name(name) for name in judge} == set(judge)


def test_every_tensor_arrives_bit_by_bit(tensors):
    for name, value in generator(tensors).state_dict().items():
        assert torch.equal(value, tensors[official_name(name)]), name


def test_arrays_of_numpy_in_half_precision_are_read(tensors):
    arrays = {name: value.half().numpy() if tiny.is_parameter(name) else value.numpy() for name, value in tensors.items()}
    module = load_official_state(arrays, tiny.next3d_arguments())
    assert isinstance(module, Generator)
    assert all(value.dtype == torch.float32 for value in module.state_dict().values())
    assert torch.equal(module.decoder.hidden.weight, tensors["decoder.net.0.weight"])


def test_given_tensors_are_copied(tensors):
    mine = {name: value.clone() for name, value in tensors.items()}
    module = generator(mine)
    mine["decoder.net.0.weight"].zero_()
    assert module.decoder.hidden.weight.abs().sum() > 0


def test_what_is_left_is_counted_by_part(tensors):
    found = converted(tensors)
    parameters = sum(value.numel() for value in found.module.state_dict().values())
    assert found.taken == parameters
    used = {own_name(name) for name in tensors} & set(found.module.state_dict())
    unused = sum(value.numel() for name, value in tensors.items() if own_name(name) not in used and is_weight(name))
    assert sum(found.left.values()) == unused > 0
    mapping = sum(value.numel() for name, value in tensors.items() if name.startswith("mouth_backbone.mapping."))
    assert found.left["mouth_backbone.mapping"] == mapping
    assert set(found.left) == {
        *("texture_backbone.mapping", "mouth_backbone.mapping", "neural_blending.mapping"),
        *("mouth_backbone.synthesis", "neural_blending.synthesis", "superresolution"),
    }


def test_nothing_of_a_discriminator_is_left():
    found = convert_network(tiny.discriminator_state(0), tiny.discriminator_arguments())
    assert isinstance(found.module, Discriminator)
    assert not found.left
    assert float(found.module.mapping.w_avg.abs().sum()) == 0


def test_the_mesh_and_its_mask_are_recovered(tensors, head, rng):
    mask = torch.rand(1, 1, 32, 32, generator=rng)
    topology = generator(tensors, uv_mask=mask).topology
    assert torch.equal(topology.faces, head.topology.faces)
    assert torch.equal(topology.uvs, head.topology.uvs)
    assert torch.equal(topology.uv_faces, head.topology.uv_faces)
    assert torch.equal(topology.uv_mask, mask[0])
    assert topology.guide_colors.shape == (int(head.topology.faces.max()) + 1, 3)
    assert float(generator(tensors).topology.uv_mask.min()) == 1, "without a mask the texture owns everything"


def test_the_resolution_of_training_is_kept(tensors):
    assert generator(tensors).config.render.resolution == 64
    assert generator(tensors, resolution=16).config.render.resolution == 16


def test_the_decoder_s_multiplier_goes_into_its_weights():
    """Its layers apply weight and bias times the multiplier."""
    state = tiny.eg3d_state(0)
    multiplied = convert_network(state, tiny.eg3d_arguments(decoder_lr_mul=0.5)).module
    scaled = {name: value * 0.5 if name.startswith("decoder.") else value for name, value in state.items()}
    expected = convert_network(scaled, tiny.eg3d_arguments()).module
    assert all(torch.equal(value, expected.state_dict()[name]) for name, value in multiplied.state_dict().items())
    with pytest.raises(CheckpointError, match="decoder_lr_mul is 'much', expected a number"):
        convert_network(state, tiny.eg3d_arguments(decoder_lr_mul="much"))


def test_unused_tensors_do_not_matter(tensors, mesh, rng):
    """Whatever the originals own and never use may have any value, or be missing."""
    whole = generator(tensors)
    used = {official_name(name) for name in whole.state_dict()} | {"faces", "raw_uvcoords", "uvfaces"}
    bare = generator({name: value for name, value in tensors.items() if name in used})
    z, c = torch.randn(2, tiny.LATENT, generator=rng), labels(2)
    assert torch.equal(whole(z, c, mesh).image, bare(z, c, mesh).image)


MESHES: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "a corner beyond all vertices": (lambda t: t["faces"].__setitem__((0, 3, 1), 1 << 40), "'faces' does not hold the corners"),
    "a negative corner": (lambda t: t["faces"].__setitem__((0, 3, 1), -1), "'faces' does not hold the corners"),
    "a uv that is not there": (lambda t: t["uvfaces"].__setitem__((0, 0, 0), len(t["raw_uvcoords"][0])), "'uvfaces' does not hold"),
    "other uv triangles": (lambda t: t.update(uvfaces=t["uvfaces"][:, 1:]), "'uvfaces' does not hold the corners of"),
    "quads": (lambda t: t.update(faces=torch.zeros(1, 5, 4, dtype=torch.long)), "'faces' does not hold the corners of 5 triangles"),
    "fractions": (lambda t: t.update(faces=t["faces"].float()), "'faces' does not hold"),
    "uvs in space": (lambda t: t.update(raw_uvcoords=torch.zeros(1, 9, 3)), "'raw_uvcoords' has shape"),
    "uvs that are no numbers": (lambda t: t["raw_uvcoords"].__setitem__((0, 0, 0), torch.nan), "expected finite pairs"),
}


@pytest.mark.parametrize("name", MESHES)
def test_a_damaged_mesh_is_refused_with_a_sentence(tensors, name):
    change, reason = MESHES[name]
    changed = {key: value.clone() for key, value in tensors.items()}
    change(changed)
    with pytest.raises(CheckpointError, match=reason):
        converted(changed)


@pytest.mark.parametrize("shape", [(5,), (1, 1, 4, 8), (2, 1, 8, 8), (1, 1, 0, 0), ()], ids=str)
def test_a_damaged_mask_is_refused_with_a_sentence(tensors, shape):
    with pytest.raises(CheckpointError, match="its UV mask has shape"):
        converted(tensors, uv_mask=torch.ones(shape))
    with pytest.raises(CheckpointError, match=r"numbers in \[0, 1\]"):
        converted(tensors, uv_mask=torch.full((1, 1, 4, 4), torch.nan))


BOMBS: dict[str, Callable[[Tensors, dict[str, Any]], object]] = {
    "wide layers": lambda t, a: a.update(channel_base=1 << 40, channel_max=1 << 30),
    "a large latent": lambda t, a: a.update(z_dim=1 << 40),
    "a large style": lambda t, a: a.update(w_dim=1 << 30),
    "large planes by a name": lambda t, a: t.update(
        {name.replace(".b64.", ".b65536."): value for name, value in t.items() if name.startswith("backbone.synthesis.b64.")}
    ),
    "a large texture by a name": lambda t, a: t.update(
        {name.replace(".b32.", ".b65536."): value for name, value in t.items() if name.startswith("texture_backbone.synthesis.b32.")}
    ),
    "odd planes by a name": lambda t, a: t.update(
        {name.replace(".b64.", ".b100."): value for name, value in t.items() if name.startswith("backbone.synthesis.b64.")}
    ),
    "encoders without end": lambda t, a: t.update(
        {f"neural_blending.synthesis.encoder.{i}.conv1.weight": torch.zeros(1) for i in range(99)}
    ),
}


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("name", BOMBS)
def test_nobody_takes_more_memory_than_the_tensors_have(tensors, name):
    changed, arguments = dict(tensors), tiny.next3d_arguments()
    BOMBS[name](changed, arguments)
    with pytest.raises(CheckpointError) as caught:
        convert_network(changed, arguments)
    assert len(str(caught.value)) < 500


def test_an_enormous_number_in_a_name_is_only_a_name(tensors):
    strange = f"texture_backbone.synthesis.b{10**4000}.conv1.weight"
    found = converted(tensors | {strange: torch.zeros(7)})
    assert sum(found.left.values()) == sum(converted(tensors).left.values()) + 7
    assert all(len(part) < 50 for part in found.left)


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:Casting complex")
def test_300_wrong_files_end_in_a_sentence_or_a_network():
    """Arguments of another type or size, tensors of another shape or type, or missing: nothing else may come out."""
    random = np.random.default_rng(0)
    state, values = tiny.eg3d_state(0), (None, -1, 0, 3, 1e9, "x", [], {}, True, float("nan"), 1 << 62, "training.superresolution.A")
    names, ended = sorted(state), {"sentence": 0, "network": 0}
    for _ in range(300):
        tensors, arguments = dict(state), copy.deepcopy(tiny.eg3d_arguments())
        target = arguments if random.random() < 0.4 else arguments["rendering_kwargs"]
        if random.random() < 0.5:
            target[str(random.choice(sorted(target)))] = values[random.integers(len(values))]
        else:
            name = names[random.integers(len(names))]
            shapes = (
                torch.zeros(0),
                torch.zeros(()),
                torch.zeros(1, 2, 3, 4, 5),
                state[name].to(torch.int8),
                state[name].to(torch.complex64),
            )
            changed = shapes[random.integers(len(shapes))]
            tensors[name] = changed
            if random.random() < 0.3:
                del tensors[name]
        with contextlib.suppress(CheckpointError):
            assert isinstance(load_official_state(tensors, arguments), TriplaneGenerator)
            ended["network"] += 1
            continue
        ended["sentence"] += 1
    assert min(ended.values()) > 30
