"""`--mirror`: pictures, cameras, heads and conditions become mirror images together."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from dnnlib.errors import ConfigError
from next3d.commands.main import run_command
from next3d.commands.train import train
from next3d.head import load_head
from next3d.head.model import LinearHeadModel
from next3d.render.cameras import mirrored_camera, orbit_camera
from next3d.render.mesh_image import render_mesh_image
from next3d.types import Camera
from tests.training.factory import even_head, write_own
from tests.training.test_phases import run, tiny_config
from training.conditions import Conditions, expression_and_jaw
from training.dataset import PortraitDataset, open_dataset
from training.loader import load_batches
from training.mirror import Mirror
from training.randomness import Draws
from training.state import new_state
from training.trainer import Trainer

CPU = torch.device("cpu")
ALL = torch.tensor([True])


def mirroring(config=None, **loss):
    config = config or tiny_config(**loss)
    return replace(config, data=replace(config.data, mirror=True))


def test_the_rendering_of_the_mirror_image_is_the_flipped_rendering():
    """The default head, turned, with one eye closed, seen from the side: pixel by pixel but for a few on edges."""
    head = load_head("procedural")
    assert isinstance(head, LinearHeadModel)
    params = head.neutral(1)
    params.expression[0, head.expression_index("eyeBlinkLeft")] = 1
    params.expression[0, head.expression_index("jawLeft")] = 1
    params.pose[0, 0] = torch.tensor([0.1, 0.4, 0.2])
    params.translation[0, 0] = 0.05
    mesh, camera, mirror = head(params), orbit_camera(torch.tensor([0.3]), torch.tensor([-0.1])), Mirror(head.topology, "cpu")
    seen = render_mesh_image(mesh, camera, head.topology, 128)
    seen_mirrored = render_mesh_image(mirror.mesh(mesh, ALL), mirror.camera(camera, ALL), head.topology, 128)
    wrong = ((seen_mirrored - seen.flip(3)).abs() > 0.05).any(dim=1).float().mean()
    assert wrong < 0.005
    assert ((seen_mirrored - seen).abs() > 0.05).any(dim=1).float().mean() > 0.05, "the test would notice"
    of_parameters = head(head.mirror(params))
    torch.testing.assert_close(of_parameters.vertices, mirror.mesh(mesh, ALL).vertices, rtol=0, atol=1e-5)
    torch.testing.assert_close(of_parameters.landmarks, mirror.mesh(mesh, ALL).landmarks, rtol=0, atol=1e-5)


def parts(dataset: PortraitDataset, config, steps: int):
    """What the first steps are given."""
    trainer = Trainer(config, dataset, new_state(config, dataset.topology, CPU), CPU)
    batches = load_batches(dataset, seed=0, start=0, size=config.run.batch)
    found = []
    for batch in islice(batches, steps):
        found.append((batch, trainer._parts(batch)[0]))
        trainer.state.images += config.run.batch
    return found


def test_about_half_of_the_samples_are_mirrored_whole(even):
    count = mirrored = 0
    head = even_head()
    for batch, part in parts(even, mirroring(), 12):
        for row in range(4):
            flipped = bool((part.image[row] == batch.image[row].flip(2)).all())
            expected = mirrored_camera(batch.camera) if flipped else batch.camera
            torch.testing.assert_close(part.label[row], expected.to_label()[row])
            mesh = head(batch.head)
            mesh = Mirror(head.topology, "cpu").mesh(mesh, torch.full((4,), flipped))
            torch.testing.assert_close(part.mesh.vertices[row], mesh.vertices[row])
            torch.testing.assert_close(part.mesh.landmarks[row], mesh.landmarks[row])
            assert flipped or (part.image[row] == batch.image[row]).all()
            count, mirrored = count + 1, mirrored + flipped
    assert 0.25 < mirrored / count < 0.75
    assert all(torch.equal(part.image, batch.image) for batch, part in parts(even, tiny_config(), 2)), "without it nothing is"


def test_swapped_cameras_are_of_either_side(even):
    """The generator's other camera comes from the doubled data set."""
    plain = Conditions(even, expression=False, mirror=False, device=CPU, dtype=torch.float32)
    doubled = Conditions(even, expression=False, mirror=True, device=CPU, dtype=torch.float32)
    position = torch.arange(60)
    one, two = plain.others(Draws(0), position), doubled.others(Draws(0), position)
    same = (one == two).all(dim=1)
    assert 15 < same.sum() < 45
    torch.testing.assert_close(two[~same], mirrored_camera(Camera.from_label(one)).to_label()[~same])


def test_the_choice_does_not_depend_on_parts(even):
    """The choice belongs to the sample's position."""
    _, losses = run(mirroring(tiny_config(batch=8)), even, 1)
    _, again = run(mirroring(tiny_config(batch=8, batch_gpu=4)), even, 1)
    assert losses[0] == pytest.approx(again[0], rel=1e-4)
    assert losses[0] != run(tiny_config(batch=8), even, 1)[1][0]


def test_meshes_without_a_left_right_map_are_refused(published: Path):
    dataset = open_dataset(published, 32)
    config = mirroring()
    with pytest.raises(ConfigError, match="--mirror: the data set's meshes have no left-right map"):
        Trainer(config, dataset, new_state(config, dataset.topology, CPU), CPU)


def test_conditions_of_mirrored_heads_are_those_of_the_mirrored_parameters(tmp_path):
    """With the default head, whose left eye's blink becomes the right eye's."""
    head = load_head("procedural")
    assert isinstance(head, LinearHeadModel)
    dataset = open_dataset(write_own(tmp_path / "default", 4, 32, head), 32)
    conditions = Conditions(dataset, expression=True, mirror=True, device=CPU, dtype=torch.float32)
    params = head.neutral(2)
    params.expression[:] = torch.rand(params.expression.shape, generator=torch.Generator().manual_seed(0))
    params.pose[:, 2] = torch.tensor([0.2, 0.1, -0.05])
    found = conditions.extra(params, torch.tensor([True, False]))
    torch.testing.assert_close(found[0], expression_and_jaw(head.mirror(params))[0])
    torch.testing.assert_close(found[1], expression_and_jaw(params)[1])
    assert not torch.equal(found[0], found[1])


def test_the_command_says_that_it_mirrors(even, tmp_path, capsys):
    flags = ["--outdir", str(tmp_path / "runs"), "--cfg", "tiny", "--data", str(even.path), "--threads", "1", "--mirror", "true"]
    assert run_command(train, [*flags, "--dry-run"]) == 0
    assert '"mirror": true' in capsys.readouterr().out
    assert run_command(train, [*flags, "--kimg", "0.008", "--batch", "4"]) == 0
