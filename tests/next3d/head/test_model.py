"""Head models: skinning, mirror images, gradients, units."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from next3d.head import load_head
from next3d.head.model import OBJECT_TO_WORLD, HeadParams, Joint, LinearHead, LinearHeadModel, axis_angle_to_matrix
from next3d.head.topology import Topology


@pytest.fixture(scope="module")
def head() -> LinearHeadModel:
    model = load_head("procedural")
    assert isinstance(model, LinearHeadModel)
    return model


def random_params(head: LinearHeadModel, count: int, generator: torch.Generator) -> HeadParams:
    rest = head.neutral(count)
    return HeadParams(
        shape=torch.randn(rest.shape.shape, generator=generator),
        expression=torch.rand(rest.expression.shape, generator=generator) * 0.5,
        pose=0.2 * torch.randn(rest.pose.shape, generator=generator),
        translation=0.1 * torch.randn(rest.translation.shape, generator=generator),
        scale=1 + 0.1 * torch.randn(count, generator=generator),
    )


def test_neutral_is_the_template_in_world_units(head: LinearHeadModel) -> None:
    mesh = head(head.neutral(2))
    torch.testing.assert_close(mesh.vertices, (head.template * OBJECT_TO_WORLD).expand(2, -1, -1), rtol=0, atol=1e-6)
    assert mesh.landmarks.shape == (2, 68, 3)


def test_a_batch_equals_its_rows(head: LinearHeadModel, rng: torch.Generator) -> None:
    params = random_params(head, 3, rng)
    together = head(params).vertices
    alone = torch.cat([head(params[row : row + 1]).vertices for row in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


def test_mirrored_parameters_give_the_mirrored_mesh(head: LinearHeadModel, rng: torch.Generator) -> None:
    params = random_params(head, 2, rng)
    flip = torch.tensor([-1.0, 1.0, 1.0])
    mesh, mirrored = head(params), head(head.mirror(params))
    torch.testing.assert_close(mirrored.vertices, mesh.vertices[:, head.topology.mirror_vertices] * flip, rtol=0, atol=2e-6)
    torch.testing.assert_close(mirrored.landmarks, mesh.landmarks[:, head.topology.mirror_landmarks] * flip, rtol=0, atol=2e-6)


def test_mirroring_twice_changes_nothing(head: LinearHeadModel, rng: torch.Generator) -> None:
    params = random_params(head, 2, rng)
    twice = head.mirror(head.mirror(params))
    for name, value in vars(params).items():
        assert torch.equal(getattr(twice, name), value), name


def test_translation_scale_and_global_rotation_move_the_head_rigidly(head: LinearHeadModel, rng: torch.Generator) -> None:
    params = random_params(head, 1, rng)
    still = replace(params, pose=params.pose.clone(), translation=torch.zeros(1, 3), scale=torch.ones(1))
    still.pose[:, Joint.GLOBAL] = 0
    turn = axis_angle_to_matrix(params.pose[:, Joint.GLOBAL])
    expected = params.scale[:, None, None] * (head(still).vertices @ turn.mT) + params.translation[:, None]
    torch.testing.assert_close(head(params).vertices, expected, rtol=0, atol=1e-5)


def test_gradients_reach_every_parameter(head: LinearHeadModel, rng: torch.Generator) -> None:
    """Central differences along a random direction, in double precision."""
    model = load_head("procedural").double()
    single = random_params(head, 1, rng)
    params = single.map(lambda tensor: tensor.double().requires_grad_())
    probe = torch.randn(1, len(head.template), 3, generator=rng).double()

    def loss(at: HeadParams) -> Tensor:
        return (model(at).vertices * probe).sum()

    loss(params).backward()
    for name, tensor in vars(params).items():
        assert tensor.grad is not None, name
        assert tensor.grad.isfinite().all(), name
        assert tensor.grad.abs().sum() > 0, name
        step = 1e-5 * torch.randn(tensor.shape, generator=rng).double()
        with torch.no_grad():
            difference = loss(replace(params, **{name: tensor + step})) - loss(replace(params, **{name: tensor - step}))
        torch.testing.assert_close(2 * (tensor.grad * step).sum(), difference, rtol=1e-4, atol=1e-9)


def test_rotations_are_smooth_at_zero() -> None:
    zero = torch.zeros(1, 3, requires_grad=True)
    matrix = axis_angle_to_matrix(zero)
    assert torch.equal(matrix[0], torch.eye(3))
    (gradient,) = torch.autograd.grad(matrix[0, 2, 1], zero)
    torch.testing.assert_close(gradient, torch.tensor([[1.0, 0.0, 0.0]]))


def test_rotations_are_rotations(rng: torch.Generator) -> None:
    vectors = torch.cat([2 * torch.randn(20, 3, generator=rng), 1e-4 * torch.randn(20, 3, generator=rng)]).double()
    matrix = axis_angle_to_matrix(vectors)
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(3).double().expand_as(matrix))
    torch.testing.assert_close((matrix @ vectors[..., None])[..., 0], vectors)


def test_fingerprint_changes_with_every_number_and_only_then(head: LinearHeadModel) -> None:
    assert head.fingerprint() == load_head("procedural").fingerprint()
    for name in ("template", "shape_directions", "expression_directions", "joints", "joint_shape_directions", "weights", "pose_directions"):
        other = load_head("procedural")
        changed = getattr(other, name).clone()
        changed.view(-1)[0] += 1
        setattr(other, name, changed)
        assert other.fingerprint() != head.fingerprint(), name
    other = load_head("procedural")
    other.topology = replace(other.topology, uvs=other.topology.uvs.flip(0))
    assert other.fingerprint() != head.fingerprint()


def test_names_lead_to_columns(head: LinearHeadModel) -> None:
    assert head.expression_names[head.expression_index("eyeBlinkLeft")] == "eyeBlinkLeft"
    assert head.shape_names[head.shape_index("jaw_width")] == "jaw_width"
    with pytest.raises(KeyError, match="eyeBlinkLeft"):
        head.expression_index("eyeBlnk")


def test_shapes_that_disagree_are_refused(head: LinearHeadModel) -> None:
    numbers = LinearHead(
        template=torch.zeros(4, 3),
        shape_directions=torch.zeros(4, 3, 2),
        expression_directions=torch.zeros(4, 3, 1),
        joints=torch.zeros(5, 3),
        joint_shape_directions=torch.zeros(5, 3, 2),
        weights=torch.zeros(3, 5),
    )
    topology = Topology(torch.zeros(1, 3).long(), torch.zeros(1, 2), torch.zeros(1, 3).long(), torch.ones(1, 1, 1), torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"weights has shape \(3, 5\), expected \(4, 5\)"):
        LinearHeadModel("tiny", numbers, topology, shape_names=("a", "b"), expression_names=("c",))
