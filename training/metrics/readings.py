"""Real and generated faces with what they should show and what they are read to show: what the avatar metrics share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dnnlib.errors import DatasetError
from next3d.head.model import HeadParams
from next3d.media.images import from_uint8, to_uint8
from next3d.types import Camera
from training.metrics.context import Context
from training.metrics.controls import Control
from training.metrics.face_reader import LARGEST, FaceReader
from training.metrics.face_state import FaceState, avatar_controls, true_state
from training.metrics.scenes import Sampler, Scenes, in_many_poses, random_people
from training.metrics.windows import at_most
from training.randomness import Draws

READ_AT_ONCE = 64
"""Real images decoded at once; only small versions of them are kept."""
KEPT_BYTES = 512 << 20
"""Generated pictures are kept for the next metric if they take no more."""


@dataclass(frozen=True)
class Faces:
    """N pictures' heads and cameras, what they should show, and what they were read to show."""

    params: HeadParams
    camera: Camera
    truth: FaceState
    reading: FaceState

    def __len__(self) -> int:
        return len(self.truth)


def known_controls(context: Context) -> Mapping[str, Control]:
    """The controls of the data set's head, in the order in which states hold them."""
    return context.once("avatar: controls", lambda: avatar_controls(context.head))


def held_out_rows(context: Context) -> range:
    """Items to which nothing is fitted: the data set's last ones.

    Raises:
        DatasetError: too few would be left.
    """
    total, held = len(context.dataset), context.settings.holdout
    if total - held < 4:
        raise DatasetError(
            f"{context.dataset.path}: {total} images, of which {held} are held out; avatar metrics need at least 4 others: "
            "hold out fewer (--holdout) or make a larger data set."
        )
    return range(total - held, total)


def other_rows(context: Context) -> list[int]:
    """All other items, shuffled: regressors are fitted to the first ones, and scenes borrow heads and cameras from them."""
    rest = held_out_rows(context).start
    return [int(row) for row in Draws(context.settings.seed).permutation("metrics: rows", 0, rest)]


def real_faces(context: Context, rows: Sequence[int]) -> tuple[Tensor, HeadParams, Camera]:
    """Images [N, 3, h, h] in [-1, 1], h at most 128, heads and cameras of items of the data set."""
    images, heads, labels = [], [], []
    for start in range(0, len(rows), READ_AT_ONCE):
        batch = context.dataset.read_sound(rows[start : start + READ_AT_ONCE])
        if not isinstance(batch.head, HeadParams):
            raise meshes_refused(context)
        images.append(at_most(batch.image, LARGEST))
        heads.append(batch.head)
        labels.append(batch.camera.to_label())
    params = HeadParams(*(torch.cat(parts) for parts in zip(*(vars(head).values() for head in heads), strict=True)))
    return torch.cat(images), params, Camera.from_label(torch.cat(labels))


def face_reader(context: Context) -> FaceReader:
    """The reader, fitted once to images that are not held out."""

    def fit() -> FaceReader:
        rows = other_rows(context)[: context.settings.fitting]
        context.say(f"Fitting the reader of faces to {len(rows)} real images")
        images, params, camera = real_faces(context, rows)
        controls = known_controls(context)
        return FaceReader.fit(images, true_state(context.head, params, camera, controls), controls)

    return context.once("avatar: reader", fit)


def held_out_faces(context: Context) -> Faces:
    """The held-out real images, read: what the floors are made of."""

    def make() -> Faces:
        images, params, camera = real_faces(context, held_out_rows(context))
        truth = true_state(context.head, params, camera, known_controls(context))
        return Faces(params, camera, truth, face_reader(context).read(images))

    return context.once("avatar: held out", make)


def natural_scenes(context: Context) -> Scenes:
    """As many people as the settings say, each with the head and the camera of a real image that is not held out."""

    def make() -> Scenes:
        rows = other_rows(context)
        chosen = [rows[index % len(rows)] for index in range(context.settings.people)]
        camera, params = context.dataset.conditions(chosen)
        if not isinstance(params, HeadParams):
            raise meshes_refused(context)
        return random_people(params, camera, context.latent_size, seed=context.settings.seed)

    return context.once("avatar: scenes", make)


def read_scenes(context: Context, scenes: Scenes, sampler: Sampler | None = None) -> FaceState:
    """What the pictures of scenes are read to show, by default those that the network draws; pictures are not kept."""
    reader, draw = face_reader(context), sampler or context.sampler
    rows = context.rows(len(scenes), lambda start, stop: reader.read(draw(scenes[start:stop])).to_rows())
    return FaceState.from_rows(rows)


def read_poses(context: Context, scenes: Scenes, heads: Sequence[HeadParams], sampler: Sampler | None = None) -> list[Faces]:
    """K sets of heads of the same N people: what their pictures should show, and what they are read to show.

    Args:
        context: the reader, and the network.
        scenes: N people under their cameras.
        heads: K times N heads. A person's pictures are made one after the other: a network then makes the face once.
        sampler: another one than the network.
    """
    found = read_scenes(context, in_many_poses(scenes, heads), sampler)
    known = known_controls(context)
    turns = [(head, found[torch.arange(start, len(found), len(heads))]) for start, head in enumerate(heads)]
    return [Faces(head, scenes.camera, true_state(context.head, head, scenes.camera, known), reading) for head, reading in turns]


def natural_pictures(context: Context) -> Callable[[int, int], Tensor]:
    """The pictures [stop - start, 3, H, H] of `natural_scenes` from `start` to `stop`; kept for the next metric if they are small."""
    scenes, size = natural_scenes(context), context.dataset.resolution

    def draw(start: int, stop: int) -> Tensor:
        return context.sampler(scenes[start:stop])

    if 3 * len(scenes) * size**2 > KEPT_BYTES:
        return draw
    kept = context.once(
        "avatar: pictures", lambda: context.rows(len(scenes), lambda start, stop: to_uint8(draw(start, stop))), network=True
    )
    return lambda start, stop: from_uint8(kept[start:stop])


def generated_faces(context: Context) -> Faces:
    """The pictures of `natural_scenes`, read."""

    def make() -> Faces:
        scenes, pictures, reader = natural_scenes(context), natural_pictures(context), face_reader(context)
        truth = true_state(context.head, scenes.moving, scenes.camera, known_controls(context))
        rows = context.rows(len(scenes), lambda start, stop: reader.read(pictures(start, stop)).to_rows())
        return Faces(scenes.moving, scenes.camera, truth, FaceState.from_rows(rows))

    return context.once("avatar: generated", make, network=True)


def meshes_refused(context: Context) -> DatasetError:
    """What is said of data sets whose heads cannot be commanded."""
    return DatasetError(f"{context.dataset.path}: its heads are meshes, but these metrics need head parameters (heads.npz).")
