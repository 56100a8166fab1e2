"""Definition + lock → image: each step whose key isn't known is run, and what it leaves becomes a layer.

Stages are baked first, those that are needed (planning.py): what they leave is stored as an image's layers are, and is
part of none. An image is entered in the store when all its layers are there. When every step is known no process is
started, nothing is mounted and no blob is read.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from instar import durable
from instar.bake.explained import remember
from instar.bake.image import configure
from instar.bake.planning import (
    Planned,
    PlannedPart,
    digest_of,
    name_of,
    plan,
    plan_stage,
    planned_steps,
    service_on,
    user_of,
)
from instar.bake.records import Records
from instar.bake.slim import left_out
from instar.bake.slim.left_out import LeftOut
from instar.bake.stages import kept as kept_stages
from instar.bake.steps import keyed, of_the_image
from instar.errors import BlobDamaged, ImageNotFound, InstarError
from instar.frozen import dataclass
from instar.model.digest import Digest
from instar.model.image import Image, ImageConfig, Layer
from instar.model.lock import Lock
from instar.model.progress import Progress, Report
from instar.model.state import StateDirectory

if TYPE_CHECKING:
    from instar.definition import Loaded
    from instar.definition.parts import ImagePart
    from instar.fetch.cache import Cache
    from instar.store import Store
    from instar.store.mountable import MountableLayers


@dataclass(frozen=True, kw_only=True, slots=True)
class BakedStep:
    """``why`` it was run, where that was asked for; ``stage`` whose step it is, None: the image's."""

    step: str
    layer: Layer
    cached: bool
    seconds: float
    why: str = ""
    stage: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Baked:
    """``steps``: those of the stages that were needed, and then the image's. ``left_out``: of a slim image, where it
    is known."""

    image: Image
    steps: tuple[BakedStep, ...]
    seconds: float
    left_out: LeftOut | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class BakedDefinition:
    """What came of the definition at ``file``, of several: one of the two is there."""

    file: Path
    baked: Baked | None = None
    failure: InstarError | None = None


def bake(
    loaded: Loaded,
    *,
    lock: Lock,
    store: Store,
    cache: Cache,
    layers: MountableLayers,
    state: StateDirectory,
    report: Report,
    planned: Planned | None = None,
    mountable: bool = False,
) -> Baked:
    """Bake what isn't baked yet. Everything that the lock and ``fetch`` name is in ``cache``.

    ``planned``, where the caller has it, saves reading the author's files again. ``mountable``: instances will start
    at once, so small layers too are made ready for them now, while their trees are at hand.

    Raises StepFailed, BakeError, FetchError (damaged in the cache), StoreError, HostError. What was done is kept.
    """
    started = time.monotonic()
    planned = planned or plan(loaded, lock=lock, store=store, state=state)
    state.steps.mkdir(parents=True, exist_ok=True, mode=0o700)
    _clear(state.steps)
    declared = loaded.definition.image.platforms
    for note in (note for step in planned.steps for note in step.work.notes):
        report(Progress(stage="bake", text=note, kind="warning"))
    service = service_on(loaded.definition.name, lock, store)
    baking = _Baking(planned, lock, store, cache, layers, state, report, declared=bool(declared))
    for part in planned.parts:
        if part.needed:
            baking.bake(part, service, mountable=mountable and part.stage is None)
    config = configure(loaded.definition, lock, user_of(baking.users))
    image = _image(store, config, baking.left[None], lock.epoch)
    kept_stages.write(state.steps, service, planned.contents.wanted(), baking.layers_of_stages())
    out = left_out.find(state.steps, service, baking.slim_key) if baking.slim_key else None
    return Baked(image=image, steps=tuple(baking.steps), seconds=time.monotonic() - started, left_out=out)


def bake_stage(
    part: ImagePart,
    *,
    lock: Lock,
    store: Store,
    cache: Cache,
    layers: MountableLayers,
    state: StateDirectory,
    report: Report,
) -> tuple[Layer, ...]:
    """Bake what ``part`` is made of, and the stages that it takes from; return its layers, from the lowest up.

    ``lock`` has what is locked for all of them. Raises as :func:`bake` does.
    """
    state.steps.mkdir(parents=True, exist_ok=True, mode=0o700)
    _clear(state.steps)
    planned = plan_stage(part, lock, store, state)
    declared = bool(part.loaded.definition.image.platforms)
    baking = _Baking(planned, lock, store, cache, layers, state, report, declared=declared)
    for one in planned.parts:
        baking.bake(one, part.loaded.definition.name, mountable=False)
    return baking.left[part.stage]


class _Baking:
    """One bake, part by part. ``left``: the layers of each, from the lowest up; ``users``: what steps found."""

    def __init__(
        self,
        planned: Planned,
        lock: Lock,
        store: Store,
        cache: Cache,
        layers: MountableLayers,
        state: StateDirectory,
        report: Report,
        *,
        declared: bool,
    ) -> None:
        """``declared``: the definition says for which platforms the image is."""
        self._declared = declared
        self._planned, self._lock, self._state = planned, lock, state
        self._store, self._cache, self._layers, self._report = store, cache, layers, report
        self.left: dict[str | None, tuple[Layer, ...]] = {}
        self.steps: list[BakedStep] = []
        self.users: list[tuple[int, int] | None] = []
        self.slim_key = ""

    def bake(self, part: PlannedPart, service: str, *, mountable: bool) -> None:
        """Run the steps of a part that are not known, once the stages before it are there."""
        lock, contents = self._lock.of(part.stage), self._planned.contents
        steps = part.steps
        if any(step.work.takes for step in steps):
            again = keyed([step.work for step in steps], lock, contents)
            steps = planned_steps(again, Records(self._state.steps, self._store))
        made = [(step.layer, 0.0) for step in steps]
        users = [step.user for step in steps]
        if not all(step.cached for step in steps):
            from instar.bake.worker import StepState, Worker

            tasks = [StepState(step.work, step.layer, step.user) for step in steps]
            where = (self._store, self._cache, self._layers, lock, self._report)
            worker = Worker(tasks, *where, mountable=mountable, stages=self.left, declared=self._declared)
            worker.work(self._state.steps, mark_of(self._state))
            made = [(task.layer, task.seconds) for task in tasks]
            users = [task.user for task in tasks]
        baked = [
            BakedStep(
                step=step.step, layer=layer, cached=step.cached, seconds=seconds, why=before.why, stage=part.stage
            )
            for step, before, (layer, seconds) in zip(steps, part.steps, made, strict=True)
            if layer is not None
        ]
        held = of_the_image(list(zip(steps, baked, strict=True)), lambda pair: pair[0].work.kind)
        self.left[part.stage] = tuple(one.layer for _, one in held)
        self.steps += baked
        self.users += users
        remember(self._state.steps, name_of(service, part.stage), [step.work for step in steps], lock)
        if steps[-1].work.kind == "slim":
            self.slim_key = steps[-1].work.key
        if part.stage is not None:
            contents.end(part.stage, steps[-1].work.key)
            self._look_into(part.stage, anew=not all(step.cached for step in steps))

    def _look_into(self, stage: str, *, anew: bool) -> None:
        """Find what parts that are needed take out of a stage, which is there now. Raises StepFailed."""
        contents = self._planned.contents
        steps = [step.work for part in self._planned.parts if part.needed for step in part.steps]
        takes = [
            (step.full_name, take)
            for step in steps
            for take in step.takes
            if take.stage == stage and (anew or contents.find(take) is None)
        ]
        if takes:
            from instar.bake.stages.looking import look_into

            folder, mark = self._state.steps, mark_of(self._state)
            for take, content in look_into(takes, self.left[stage], self._layers, folder, mark):
                contents.add(take, content)

    def layers_of_stages(self) -> Iterable[Digest]:
        """Return the blobs of the stages, also of those that were not needed, as far as they are there."""
        for part in self._planned.parts:
            if part.stage is not None:
                known = (step.layer for step in part.steps if step.layer)
                yield from (layer.digest for layer in self.left.get(part.stage, known))
        beneath = {step.layer.digest for step in self.steps if step.stage is None}
        yield from beneath - {layer.digest for layer in self.left[None]}  # a slim image's


def prune_records(state: StateDirectory, store: Store) -> int:
    """Remove the records of steps whose layers the store has no longer; return how many."""
    return Records(state.steps, store).prune()


def mark_of(state: StateDirectory) -> str:
    """Return what marks things as this state directory's, if it has a mark yet."""
    with contextlib.suppress(OSError):
        return durable.read(state.id_file).decode("ascii", "replace").strip()
    return ""


def _clear(steps: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if any((steps / "work").iterdir()):
            from instar.bake.scratch import clear_leftovers

            clear_leftovers(steps)


def _image(store: Store, config: ImageConfig, layers: Sequence[Layer], epoch: int) -> Image:
    try:
        return store.image(digest_of(config, layers, epoch))
    except (ImageNotFound, BlobDamaged):
        return store.add_image(config, layers, created=epoch)
