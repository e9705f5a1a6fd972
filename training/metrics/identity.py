"""Does a face stay the same person while it talks and turns?

ID consistency: mean distance between pictures of one seed, 8 expressions from 5 views each, divided by the mean distance between
pictures of different seeds: 0 is one and the same picture, 1 is no identity at all. Distances are one minus the cosine of embeddings, by a
face-recognition network where the settings name one (as published evaluations do: ArcFace in EG3D, Sec. 5.1, and Next3D, Sec. 4.1), else
by Fisher faces fitted to the data set's identity labels, or, if it has none, to synthetic portraits that are rendered on the spot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from next3d.head import load_head
from next3d.head.model import HeadParams, Joint
from next3d.media.performance import front_camera
from next3d.synthetic.render import render_sample
from training.metrics.context import Context
from training.metrics.face_reader import ALL, Frame
from training.metrics.figures import Figure
from training.metrics.fisher import FisherFaces
from training.metrics.intervals import bootstrap
from training.metrics.readings import READ_AT_ONCE, face_reader, held_out_rows, meshes_refused, natural_scenes, other_rows
from training.metrics.recognition import aligned_crops
from training.metrics.scenes import Scenes
from training.metrics.truth import picture
from training.metrics.views import SYNTHETIC_HEAD
from training.metrics.windows import at_most

EXPRESSIONS, VIEWS = 8, 5
"""Of each seed, every expression from every view: 40 pictures."""
PEOPLE_PER_SEED = 20
"""One seed for so many people of the settings: 25 seeds, 1000 pictures, for 500."""
FEWEST_SEEDS = 4
"""However few people are asked for."""
HEAD_SIDE = 2.0
"""Half side of the window in which Fisher faces see a head with its hair, as in `face_reader`."""
FEWEST_PEOPLE = 8
"""With several pictures each, for Fisher faces to be fitted."""
RENDERED_PEOPLE, RENDERED_EACH, RENDERED_HELD_OUT = 75, 4, 15
"""Synthetic portraits that stand in for identity labels, and how many of the people are for the floor."""
RENDERED_SEED = 77_000
LARGEST = 256
"""Larger pictures are averaged down to this before crops are cut."""


@dataclass(frozen=True)
class Judge:
    """What says how alike faces are."""

    embed: Callable[[Tensor], Tensor]
    """Images [N, 3, H, H] in [-1, 1] to embeddings [N, E] of length 1."""
    floor: float | None
    """The figure of real people who were not fitted to; None where there are none."""
    note: str


def measure(context: Context) -> list[Figure]:
    """ID consistency of the network."""
    judge = context.once("avatar: judge", lambda: choose_judge(context))
    scenes, people = grid(context)
    embeddings = context.rows(len(scenes), lambda start, stop: judge.embed(context.sampler(scenes[start:stop])))
    within, between = by_person(embeddings, people)
    count = len(within)
    low, high = (
        bootstrap(lambda rows: ratio(within, between, rows), count, context.settings.seed) if context.settings.intervals else (None, None)
    )
    note = f"distance within {count} seeds, {EXPRESSIONS} expressions from {VIEWS} views each, over distance between seeds; {judge.note}"
    value = ratio(within, between, torch.arange(count))
    return [Figure("id_consistency", value, len(scenes), context.settings.seed, low, high, judge.floor, "", note)]


def grid(context: Context) -> tuple[Scenes, Tensor]:
    """Each seed's expressions from each of its views, and whose the pictures are [N].

    A seed is a latent with a head's shape and size. An expression (face, jaw and eyes) is that of one item of the data set that is not
    held out; a view is camera, place and turn of the head of another one. No seed shares them with another, if the data set is large
    enough. Styles are those for the frontal camera whatever the view is, as in videos.
    """
    scenes, rows = natural_scenes(context), other_rows(context)
    seeds, each = max(FEWEST_SEEDS, len(scenes) // PEOPLE_PER_SEED), EXPRESSIONS + VIEWS
    camera, heads = context.dataset.conditions([rows[index % len(rows)] for index in range(seeds * each)])
    if not isinstance(heads, HeadParams):
        raise meshes_refused(context)
    picture = torch.arange(seeds * EXPRESSIONS * VIEWS)
    person = picture // (EXPRESSIONS * VIEWS)
    expression = each * person + picture // VIEWS % EXPRESSIONS
    view = each * person + EXPRESSIONS + picture % VIEWS
    pose = heads.pose[expression].clone()
    turns = [Joint.GLOBAL, Joint.NECK]
    pose[:, turns] = heads.pose[view][:, turns]
    who = scenes.moving
    params = HeadParams(who.shape[person], heads.expression[expression], pose, heads.translation[view], who.scale[person])
    return Scenes(scenes.z[person], params, camera[view], known_by=front_camera(len(picture))), person


def by_person(embeddings: Tensor, people: Tensor) -> tuple[Tensor, Tensor]:
    """Mean distances within each person [P] (not a number for single pictures) and between every two [P, P]."""
    distance = 1 - embeddings.double() @ embeddings.double().T
    names, person = people.unique(return_inverse=True)
    member = torch.nn.functional.one_hot(person, len(names)).double()  # [N, P]
    size = member.sum(dim=0)
    sums = member.T @ distance @ member
    own = sums.diagonal() - torch.zeros_like(size).index_add_(0, person, distance.diagonal())
    return own / (size * (size - 1)), sums / (size[:, None] * size)


def ratio(within: Tensor, between: Tensor, rows: Tensor) -> float:
    """Mean distance within the people at `rows` over the mean distance between those of them that are not the same."""
    other = rows[:, None] != rows
    return float(within[rows].nanmean() / between[rows][:, rows][other].mean())


def choose_judge(context: Context) -> Judge:
    """A network by path, or Fisher faces."""
    if context.settings.face_recognition is not None:
        return recognition_judge(context, context.settings.face_recognition.name)
    known = context.dataset.identities
    if known is not None:
        fitting, held = _with_company(known, other_rows(context)[: context.settings.fitting]), _with_company(known, held_out_rows(context))
        if len(known[fitting].unique()) >= FEWEST_PEOPLE:
            images = _Pictures(lambda rows: context.dataset.read_sound(rows).image)
            return fisher_judge(
                context, images, (fitting, known[fitting]), (held, known[held]), "judged by Fisher faces of the data set's people"
            )
    context.say("Rendering synthetic people: the data set says of nobody who it is")
    images = _Pictures(_rendered)
    people = torch.arange(RENDERED_PEOPLE * RENDERED_EACH) // RENDERED_EACH
    split = RENDERED_HELD_OUT * RENDERED_EACH
    rows = torch.arange(len(people)).tolist()
    note = "judged by Fisher faces of synthetic people, as the data set has no identities; for photos give --face-recognition"
    return fisher_judge(context, images, (rows[split:], people[split:]), (rows[:split], people[:split]), note)


def recognition_judge(context: Context, name: str) -> Judge:
    """The network that the settings name, called `name`; its floor needs identity labels."""
    network = context.face_recognition
    reader = face_reader(context)

    @torch.inference_mode()
    def embed(images: Tensor) -> Tensor:
        crops = aligned_crops(at_most(images, LARGEST), reader.read(images).landmarks)
        return network(crops.to(context.device)).cpu()

    floor, known = None, context.dataset.identities
    if known is not None:
        rows = _with_company(known, held_out_rows(context))
        floor = _floor(_Pictures(lambda part: context.dataset.read_sound(part).image).each(rows, embed), known[rows])
    return Judge(embed, floor, f"judged by {name}")


@dataclass(frozen=True)
class _Pictures:
    """Images by row numbers, a few at a time. Broken ones are replaced by their neighbours: a label in thousands may be wrong then."""

    read: Callable[[list[int]], Tensor]

    def each(self, rows: list[int], function: Callable[[Tensor], Tensor]) -> Tensor:
        """What a function makes of the images, put together; [0, 0] for no rows."""
        parts = [function(self.read(rows[start : start + READ_AT_ONCE])) for start in range(0, len(rows), READ_AT_ONCE)]
        return torch.cat(parts) if parts else torch.zeros(0, 0)


Labelled = tuple[list[int], Tensor]
"""Row numbers, and whose pictures they are [N]."""


def fisher_judge(context: Context, images: _Pictures, fitting: Labelled, held: Labelled, note: str) -> Judge:
    """Fisher faces fitted to some people and their mirror images, with the floor of others."""
    reader = face_reader(context)

    def features(pictures: Tensor) -> Tensor:
        frame = Frame.of(reader.read(pictures).landmarks)
        return frame.window(pictures, ALL, HEAD_SIDE)

    both = torch.cat([images.each(fitting[0], features), images.each(fitting[0], lambda pictures: features(pictures.flip(3)))])
    faces = FisherFaces.fit(both, torch.cat([fitting[1], fitting[1]]))
    embed: Callable[[Tensor], Tensor] = lambda pictures: faces.embed(features(pictures))  # noqa: E731
    return Judge(embed, _floor(images.each(held[0], embed), held[1]), f"{note} ({len(fitting[1].unique())})")


def _floor(embeddings: Tensor, people: Tensor) -> float | None:
    """The figure of real people; None for fewer than two."""
    count = len(people.unique())
    return ratio(*by_person(embeddings, people), torch.arange(count)) if count > 1 else None


def _with_company(known: Tensor, rows: list[int] | range) -> list[int]:
    """Those of some rows that show people who are there more than once."""
    _, person, counts = known[list(rows)].unique(return_inverse=True, return_counts=True)
    return [row for row, index in zip(rows, person.tolist(), strict=True) if counts[index] > 1]


def _rendered(rows: list[int]) -> Tensor:
    """Synthetic portraits, `RENDERED_EACH` consecutive ones of each person."""
    head = load_head(SYNTHETIC_HEAD)
    portraits = [render_sample(head, RENDERED_SEED, row, 64, person=row // RENDERED_EACH * RENDERED_EACH) for row in rows]
    return torch.stack([picture(portrait) for portrait in portraits])
