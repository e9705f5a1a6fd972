"""A whole tracking job: portions of the work on many workers, each result kept in a work folder beside the target, then the data set.

The work folder is called `.NAME.work`; it stays when a job is interrupted or killed, the same command goes on from there, and it is removed
when the data set is written.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dnnlib.errors import UserError, WriteError
from dnnlib.files import FolderClaim, make_output_folder, remove_leftovers
from next3d.head.model import LinearHeadModel
from next3d.media.portrait_files import check_target
from next3d.synthetic.generate import single_thread
from next3d.tracking.face_mesh import SMALLEST, face_mesh_problem, open_detector
from next3d.tracking.film_pipeline import FilmPlan, joined, plan_film, shots_of
from next3d.tracking.importers import open_heads
from next3d.tracking.pipeline import shared_head
from next3d.tracking.pool import Engine, open_local
from next3d.tracking.results import load_arrays
from next3d.tracking.settings import TrackingSettings
from next3d.tracking.sources import Item, find_items, told
from next3d.tracking.units import LookUnit, PhotoUnit, ShotUnit, Unit, Workplace, cut_units, look_units, photo_units, shot_unit
from next3d.tracking.writing import Clip, Outcome, Summary, write_outcome

Progress = Callable[[int, int], None]
"""Takes the steps done and their total; a photo is one step, a frame several."""
_FRAME_STEPS = 6
"""Portions that a frame is part of: look, start, first fit, window, shot, cut."""
_PROBES = 8
"""Films that are looked into at a time."""


def _silent(done: int, total: int) -> None:
    """Nobody watches."""


@dataclass(frozen=True, kw_only=True)
class JobSettings:
    """How a job is done; changes nothing in its result."""

    workers: int = 1
    engine: str = "local"
    """`local`: processes on this machine; `ray`: a Ray Data job."""
    force: bool = False
    """Replace a data set that is already there."""


def track_dataset(
    source: str | Path, target: str | Path, settings: TrackingSettings, job: JobSettings = JobSettings(), progress: Progress | None = None
) -> Summary:
    """Make a data set of photos and films.

    Args:
        source: as `find_items` takes it.
        target: a folder, or a name ending in `.zip`; appears when everything is done.
        settings: what is done.
        job: by whom.
        progress: called as the work goes on.

    Raises:
        UserError: nothing could be used; source, target, detector or head model are not there; another job works on the target.
        WriteError: there is no room.
    """
    target = Path(target)
    check_target(target, force=job.force)
    items = find_items(source)
    head = shared_head(settings.head)
    check_tools(settings, head)
    with _engine(job.engine) as engine, work_folder(target) as folder, single_thread():
        place = Workplace(folder, settings, settings.key(head.fingerprint()))
        outcome = Foreman(place, engine, job.workers, progress or _silent).work(items)
        try:
            summary = write_outcome(outcome, place, target, head, force=job.force)
        except UserError as error:
            if not isinstance(error, WriteError):  # nothing could be used, and nothing would be the next time
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)
    return summary


def check_tools(settings: TrackingSettings, head: LinearHeadModel) -> None:
    """Raise UserError, before any work, where every photo would end with it."""
    problem = face_mesh_problem(SMALLEST)
    if problem is not None:
        raise UserError(f"photos and films: tracking {problem}")
    if settings.imported is not None:
        open_heads(settings.imported.folder, settings.imported.kind, head)
    if settings.detector.task is not None:
        with open_detector(settings.detector):
            pass


@contextmanager
def work_folder(target: Path) -> Iterator[Path]:
    """The folder for results so far, for this job alone."""
    folder = make_output_folder(target.parent / f".{target.name}.work")
    claim = FolderClaim(folder)
    try:
        remove_leftovers(folder)
        yield folder
    finally:
        claim.release()


def _engine(name: str) -> AbstractContextManager[Engine]:
    if name == "ray":
        from next3d.tracking.ray_engine import open_ray

        return open_ray()
    return open_local()


@dataclass
class Foreman:
    """Gives out the work, step by step."""

    place: Workplace
    engine: Engine
    workers: int
    progress: Progress = _silent
    outcome: Outcome = field(default_factory=Outcome)
    done: int = 0
    total: int = 0

    def work(self, items: Sequence[Item]) -> Outcome:
        """Everything from files to crops."""
        plans = self._plans([item for item in items if item.kind == "film"])
        photos = photo_units([item for item in items if item.kind == "photo"])
        looks = {plan: look_units(plan) for plan in plans}
        self.total = sum(unit.size for unit in photos) + _FRAME_STEPS * sum(plan.count for plan in plans)
        self.do([*photos, *(look for several in looks.values() for look in several)])
        shots = [shot for plan in plans for shot in self._shots(plan, looks[plan])]
        shots = self._fit(shots)
        cuts = {shot: cut_units(shot) for shot in shots}
        self.do([cut for several in cuts.values() for cut in several])
        self.progress(self.total, self.total)
        self.outcome.photos = [part for unit in photos for part in self._finished(unit)]
        self.outcome.clips = [Clip(shot, [cut for cut in several if self.place.has(cut)]) for shot, several in cuts.items()]
        return self.outcome

    def _plans(self, items: Sequence[Item]) -> list[FilmPlan]:
        """The films that can be opened; the others are named."""

        def plan(item: Item) -> FilmPlan | str:
            try:
                return plan_film(item, self.place.settings)
            except UserError as error:
                return told(item, error)

        plans = []
        with ThreadPoolExecutor(_PROBES) as pool:
            for item, found in zip(items, pool.map(plan, items), strict=True):
                if isinstance(found, str):
                    self.outcome.problems[item.name] = found
                else:
                    plans.append(found)
        return plans

    def _shots(self, plan: FilmPlan, looks: Sequence[LookUnit]) -> list[ShotUnit]:
        """The shots of a film whose frames have all been looked at."""
        if not all(self.place.has(look) for look in looks):
            return []
        found = joined([load_arrays(self.place.path(look)) for look in looks])
        shots = shots_of(found, plan.fps)
        if not shots:
            self.outcome.faceless[plan.item.name] = len(found["points"])
        return [shot_unit(plan, looks, frames) for frames in shots]

    def _fit(self, shots: Sequence[ShotUnit]) -> list[ShotUnit]:
        """Find the heads of shots; gives back those of which all steps could be done."""

        def after(steps: Mapping[ShotUnit, Sequence[Unit]]) -> list[ShotUnit]:
            self.do([unit for several in steps.values() for unit in several])
            return [shot for shot, several in steps.items() if all(map(self.place.has, several))]

        shots = after({shot: [shot.start] for shot in shots})
        if self.place.settings.imported is None:
            shots = after({shot: shot.firsts() for shot in shots})
            shots = after({shot: shot.windows(self.place) for shot in shots})
        return after({shot: [shot] for shot in shots})

    def _finished(self, unit: PhotoUnit) -> list[Unit]:
        """The portions that hold the results of a portion: itself, or those that it was taken apart into."""
        return [unit] if self.place.has(unit) else [part for part in unit.alone() if self.place.has(part)]

    def do(self, units: Sequence[Unit]) -> None:
        """Portions of one step; what fails is tried once more, in the smallest portions and alone, and then named."""
        failed = [unit for unit, problem in self._run(units, self.workers) if problem]
        alone = [part for unit in failed for part in unit.alone()]
        for unit, problem in self._run(alone, 1):
            if problem:
                self.outcome.failed[unit] = problem

    def _run(self, units: Sequence[Unit], workers: int) -> Iterator[tuple[Unit, str]]:
        """What is not done yet; steps that are count at once."""
        todo = [unit for unit in units if not self.place.has(unit) and not all(map(self.place.has, unit.alone()))]
        self._step(sum(unit.size for unit in units) - sum(unit.size for unit in todo))
        for unit, problem in self.engine(todo, self.place, workers):
            if not problem:
                self._step(unit.size)
            yield unit, problem

    def _step(self, size: int) -> None:
        self.done += size
        self.progress(self.done, self.total)
