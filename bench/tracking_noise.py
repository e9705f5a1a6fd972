"""How MediaPipe's points err on portraits with known truth: the habits that `next3d.tracking.noise` stores.

    python -m bench.tracking --calibrate [--cache DIR]

Each portrait counts twice, the second time mirrored. Offsets and pose slopes are least squares, beside what the detector shows too little
of each motion; the common part of what is left is found by principal factor analysis. Factors that look like nods, turns or moves of the
whole head are taken out of it: on real photos, fits that had them made too much of nods. So the pose is what a plain detector's points say.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from bench.tracking_data import RESOLUTION, Stills, the_head
from next3d.head.model import OBJECT_TO_WORLD, HeadParams, Joint, LinearHeadModel, axis_angle_to_matrix
from next3d.render.cameras import mirrored_camera, portrait_intrinsics
from next3d.tracking.fit import first_guess
from next3d.tracking.looks import mirror_points
from next3d.tracking.noise import DetectorNoise, plain_noise
from next3d.tracking.points import PointModel, point_model
from next3d.tracking.residuals import HeadState, predict
from next3d.types import Camera

FACTORS = 40
_RIDGE = 10.0
"""Portraits' worth of belief that the detector shows every motion in full."""
_WORST = 6.0
"""Detections whose mean squared error is so many times the median are no measurements of habits."""
_ROUNDS = 10
_LEAST_SHARE = 0.02
"""Of a point's variance that is its own."""
_CHUNK = 32


def calibrate(stills: Stills) -> DetectorNoise:
    """The habits in detections of portraits."""
    head = the_head()
    assert isinstance(head, LinearHeadModel)
    model = point_model(head)
    plain = deviations(model, head, torch.from_numpy(stills.detected[stills.seen] / RESOLUTION), *_known(stills))
    mirrored = np.stack([mirror_points(points, RESOLUTION) for points in stills.detected[stills.seen]])
    params, camera = _known(stills)
    turned = deviations(model, head, torch.from_numpy(mirrored / RESOLUTION), head.mirror(params), mirrored_camera(camera))
    error, pose, motion = (torch.cat(pair) for pair in zip(plain, turned, strict=True))
    size = error.square().mean(dim=1)
    kept = size < _WORST * size.median()
    return _habits(model, error[kept], pose[kept], motion[kept])


def _known(stills: Stills) -> tuple[HeadParams, Camera]:
    seen = torch.from_numpy(stills.seen)
    return stills.params[seen], stills.camera[seen]


@torch.no_grad()
def deviations(
    model: PointModel, head: LinearHeadModel, points: Tensor, params: HeadParams, camera: Camera
) -> tuple[Tensor, Tensor, Tensor]:
    """Detected minus true measurements [N, 3 K], pose features [N, 5] and motions [N, M]; points are in unit coordinates."""
    points = points.float()
    standard = Camera(torch.eye(4).expand(len(points), 4, 4), portrait_intrinsics(len(points)))
    _, view = first_guess(model, points, standard, torch.ones(points.shape[:2]), 1)
    state = true_state(model, head, params, camera)
    rows = []
    for start in range(0, len(points), _CHUNK):
        part = slice(start, start + _CHUNK)
        rows.append(view.target[part] - predict(model, state[part], view[part], plain_noise(model)))
    return torch.cat(rows).flatten(1).double(), view.pose.double(), state.motion.double()


def true_state(model: PointModel, head: LinearHeadModel, params: HeadParams, camera: Camera) -> HeadState:
    """Known heads under known cameras as states: the neck's turn is the head's."""
    joints = OBJECT_TO_WORLD * (head.joints + torch.einsum("jas,ns->nja", head.joint_shape_directions, params.shape))
    whole, neck = axis_angle_to_matrix(params.pose[:, Joint.GLOBAL]), axis_angle_to_matrix(params.pose[:, Joint.NECK])
    place = (neck @ (model.anchor - joints[:, Joint.NECK])[..., None])[..., 0] + joints[:, Joint.NECK]
    place = (whole @ (place - joints[:, Joint.GLOBAL])[..., None])[..., 0] + joints[:, Joint.GLOBAL] + params.translation
    to_camera = camera.cam2world[:, :3, :3].transpose(1, 2)
    centre = (to_camera @ (place - camera.cam2world[:, :3, 3])[..., None])[..., 0]
    angles = params.pose[:, [Joint.JAW, Joint.LEFT_EYE, Joint.RIGHT_EYE], :2].flatten(1)
    motion = torch.cat([params.expression, angles], dim=1)
    return HeadState(to_camera @ whole @ neck, centre, motion, torch.zeros(len(motion), 1), params.shape)


def _habits(model: PointModel, error: Tensor, pose: Tensor, motion: Tensor) -> DetectorNoise:
    system = torch.cat([torch.ones_like(pose[:, :1]), pose, motion], dim=1)
    ridge = torch.cat([torch.full((1 + pose.shape[1],), 1e-6), _RIDGE * motion.square().mean(dim=0).clamp_min(1e-6)])
    told = torch.linalg.solve(system.T @ system + torch.diag(ridge.double()), system.T @ error)  # [1 + 5 + M, 3 K]
    factors, _ = factor_analysis(error - system @ told, FACTORS)
    table = told.T.reshape(-1, 3, told.shape[0]).float()
    plain = plain_noise(model)
    return DetectorNoise(
        offset=table[..., 0].contiguous(),
        slopes=table[..., 1 : 1 + pose.shape[1]].contiguous(),
        factors=torch.cat([without_turns(model, factors.float().unflatten(0, (-1, 3))), plain.factors], dim=2),
        spread=plain.spread,
    )


def without_turns(model: PointModel, factors: Tensor) -> Tensor:
    """Factors [K, 3, B] without what looks as if the head turned or moved, as points of plain spread weigh it."""
    x, y, z = (model.base * model.base.new_tensor([1.0, -1.0, -1.0])).unbind(dim=1)  # measurements have y down and z away
    zero = torch.zeros_like(x)
    nod, turn = torch.stack([zero, -z, y], dim=1), torch.stack([z, zero, -x], dim=1)
    moves = torch.eye(3).expand(len(nod), 3, 3).unbind(dim=2)
    columns = torch.stack([nod, turn, *moves], dim=2).flatten(0, 1)  # [3 K, 5]
    weighted = columns / plain_noise(model).spread.flatten()[:, None] ** 2
    share = torch.linalg.solve(columns.T @ weighted, weighted.T @ factors.flatten(0, 1))
    return factors - (columns @ share).unflatten(0, (-1, 3))


def factor_analysis(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Principal factors of rows [N, D] with mean zero: loadings [D, count] and the standard deviations [D] of the rest."""
    variance = rows.square().mean(dim=0).clamp_min(1e-12)
    own = variance
    for _ in range(_ROUNDS):
        scaled = rows / own.sqrt() / math.sqrt(len(rows))
        values, vectors = torch.linalg.eigh(scaled.T @ scaled)
        top, strength = vectors[:, -count:], (values[-count:] - 1).clamp_min(0)
        loadings = own.sqrt()[:, None] * top * strength.sqrt()
        own = torch.maximum(variance - loadings.square().sum(dim=1), _LEAST_SHARE * variance)
    return loadings, own.sqrt()
