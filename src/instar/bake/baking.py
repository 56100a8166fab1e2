"""Definition + lock → image: each step whose key isn't known is run, and what it leaves becomes a layer.

An image is entered in the store when all its layers are there. When every step is known no process is started, nothing
is mounted and no blob is read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from instar import durable
from instar.bake.explained import explain, remember
from instar.bake.image import configure
from instar.bake.records import Records
from instar.bake.steps import Step, plan_steps
from instar.definition.parts import image_of
from instar.errors import BlobDamaged, ImageNotFound
from instar.frozen import dataclass
from instar.model.digest import Digest
from instar.model.image import Image, ImageConfig, Layer
from instar.model.lock import Lock
from instar.model.progress import Progress, Report
from instar.model.state import StateDirectory
from instar.store import manifest

if TYPE_CHECKING:
    from instar.definition import Loaded
    from instar.fetch.cache import Cache
    from instar.store import Store
    from instar.store.mountable import MountableLayers

_FETCHING = frozenset({"base", "packages", "python", "fetch"})


@dataclass(frozen=True, kw_only=True, slots=True)
class BakedStep:
    """``why`` it was run, where that was asked for."""

    step: str
    layer: Layer
    cached: bool
    seconds: float
    why: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Baked:
    image: Image
    steps: tuple[BakedStep, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedStep:
    """``layer`` is what the step gave before, None when it has to run; ``user`` the numbers that it found or made;
    ``why`` it has to run, where that was asked for."""

    step: str
    layer: Layer | None
    user: tuple[int, int] | None = None
    work: Step
    why: str = ""

    @property
    def cached(self) -> bool:
        return self.layer is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """``image`` is the digest that a bake would give; None when that isn't known before it."""

    steps: tuple[PlannedStep, ...]
    image: Digest | None

    @property
    def fetches(self) -> bool:
        """Whether a step has to run that takes files from the cache."""
        return any(not step.cached and step.work.kind in _FETCHING for step in self.steps)


def plan(loaded: Loaded, *, lock: Lock, store: Store, state: StateDirectory, explained: bool = False) -> Planned:
    """Say what a bake would do; nothing is run or written. ``explained``: and why. Raises StepFailed, BakeError."""
    records = Records(state.steps, store)
    steps = tuple(_planned(step, records) for step in plan_steps(image_of(loaded), lock))
    if explained:
        causes = explain(state.steps, loaded.definition.name, [(step.work, step.cached) for step in steps], lock)
        steps = tuple(dataclasses.replace(step, why=why) for step, why in zip(steps, causes, strict=True))
    layers = [step.layer for step in steps if step.layer is not None]
    if len(layers) < len(steps):
        return Planned(steps=steps, image=None)
    config = configure(loaded.definition, lock, _user(step.user for step in steps))
    return Planned(steps=steps, image=_digest(config, layers, lock.epoch))


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
    for note in (note for step in planned.steps for note in step.work.notes):
        report(Progress(stage="bake", text=note, kind="warning"))
    made = [(step.layer, 0.0) for step in planned.steps]
    user = [step.user for step in planned.steps]
    if not all(step.cached for step in planned.steps):
        from instar.bake.worker import StepState, Worker

        tasks = [StepState(step.work, step.layer, step.user) for step in planned.steps]
        Worker(tasks, store, cache, layers, lock, report, mountable=mountable).work(state.steps, _mark(state))
        made = [(task.layer, task.seconds) for task in tasks]
        user = [task.user for task in tasks]
    steps = tuple(
        BakedStep(step=step.step, layer=layer, cached=step.cached, seconds=seconds, why=step.why)
        for step, (layer, seconds) in zip(planned.steps, made, strict=True)
        if layer is not None
    )
    remember(state.steps, loaded.definition.name, [step.work for step in planned.steps], lock)
    config = configure(loaded.definition, lock, _user(user))
    image = _image(store, config, [step.layer for step in steps], lock.epoch)
    return Baked(image=image, steps=steps, seconds=time.monotonic() - started)


def _planned(step: Step, records: Records) -> PlannedStep:
    """Return what is known of a step. One that finds out who the user is, is known only with that."""
    layer = records.find(step.key)
    user = step.user or (records.find_user(step.key) if layer and step.kind == "user" else None)
    known = layer if user or step.kind != "user" else None
    return PlannedStep(step=step.name, layer=known, user=user, work=step)


def _user(found: Iterable[tuple[int, int] | None]) -> tuple[int, int]:
    """Return the numbers of the image's user: there is one step that finds them out, and it has been run."""
    return next(user for user in found if user)


def prune_records(state: StateDirectory, store: Store) -> int:
    """Remove the records of steps whose layers the store has no longer; return how many."""
    return Records(state.steps, store).prune()


def _mark(state: StateDirectory) -> str:
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
        return store.image(_digest(config, layers, epoch))
    except (ImageNotFound, BlobDamaged):
        return store.add_image(config, layers, created=epoch)


def _digest(config: ImageConfig, layers: Sequence[Layer], epoch: int) -> Digest:
    """Return the digest of an image without making it."""
    data = manifest.config_json(config, layers, created=epoch)
    return Digest.of(manifest.manifest_json(Digest.of(data), len(data), layers))
