"""Definition + lock → image: each step whose key isn't known is run, and what it leaves becomes a layer.

A step's tree is stored while the next one runs on it. What was stored is recorded at once, so that a bake that was
stopped at any moment goes on where it was; an image is entered in the store when all its layers are there. When every
step is known no process is started, nothing is mounted and no blob is read.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from instar.bake.image import configure
from instar.bake.records import Records
from instar.bake.steps import Step, plan_steps
from instar.errors import BakeError, BlobDamaged, ImageNotFound, StepFailed
from instar.model.digest import Digest
from instar.model.image import Image, ImageConfig, Layer
from instar.model.lock import Lock
from instar.model.progress import Progress, Report
from instar.model.state import StateDirectory
from instar.store import manifest

if TYPE_CHECKING:
    from instar.bake.scratch import Room, Scratch
    from instar.definition import Loaded
    from instar.fetch.cache import Cache
    from instar.host.layers import LayerImages
    from instar.store import Store

_LARGE_BYTES = 4 << 20  # a layer whose EROFS image is worth making while other work goes on


@dataclass(frozen=True, kw_only=True, slots=True)
class BakedStep:
    step: str
    layer: Layer
    cached: bool
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Baked:
    image: Image
    steps: tuple[BakedStep, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedStep:
    step: str
    cached: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """``image`` is the digest that a bake would give; None when that isn't known before it."""

    steps: tuple[PlannedStep, ...]
    image: Digest | None


def plan(loaded: Loaded, *, lock: Lock, store: Store, state: StateDirectory) -> Planned:
    """Say what a bake would do; nothing is run or written. Raises StepFailed, BakeError."""
    steps = plan_steps(loaded, lock)
    found = _known(steps, Records(state.steps, store))
    layers = [layer for layer in found if layer is not None]
    whole = len(layers) == len(steps)
    return Planned(
        steps=tuple(
            PlannedStep(step=step.name, cached=layer is not None) for step, layer in zip(steps, found, strict=True)
        ),
        image=_digest(configure(loaded.definition, lock), layers, lock.epoch) if whole else None,
    )


def bake(
    loaded: Loaded,
    *,
    lock: Lock,
    store: Store,
    cache: Cache,
    layers: LayerImages,
    state: StateDirectory,
    report: Report,
) -> Baked:
    """Bake what isn't baked yet. Everything that the lock and ``fetch`` name is in ``cache``.

    Raises StepFailed, BakeError, FetchError (damaged in the cache), StoreError, HostError. What was done is kept.
    """
    started = time.monotonic()
    steps = plan_steps(loaded, lock)
    state.steps.mkdir(parents=True, exist_ok=True, mode=0o700)
    records = Records(state.steps, store)
    _clear(state.steps)
    found = _known(steps, records)
    seconds = [0.0] * len(steps)
    if None in found:
        baking = _Baking(steps, found, store, cache, layers, records, lock.epoch, report)
        made, seconds = baking.bake(state.steps)
    else:
        made = [layer for layer in found if layer is not None]
    return Baked(
        image=_image(store, configure(loaded.definition, lock), made, lock.epoch),
        steps=tuple(
            BakedStep(step=step.name, layer=layer, cached=known is not None, seconds=taken)
            for step, layer, known, taken in zip(steps, made, found, seconds, strict=True)
        ),
        seconds=time.monotonic() - started,
    )


def prune_records(state: StateDirectory, store: Store) -> int:
    """Remove the records of steps whose layers the store has no longer; return how many."""
    return Records(state.steps, store).prune()


class _Baking:
    """One bake in which something has to be done."""

    def __init__(
        self,
        steps: Sequence[Step],
        found: Sequence[Layer | None],
        store: Store,
        cache: Cache,
        images: LayerImages,
        records: Records,
        epoch: int,
        report: Report,
    ) -> None:
        self._steps, self._found = steps, found
        self._store, self._cache, self._images, self._records = store, cache, images, records
        self._epoch, self._report = epoch, report
        self._trees: list[Path | None] = []  # of the steps so far: what they wrote, None of one that was known
        self._stopped = threading.Event()

    def bake(self, folder: Path) -> tuple[list[Layer], list[float]]:
        """Return the layers of all steps and the seconds that each took."""
        from instar.bake import scratch

        stored: list[Future[Layer]] = []
        seconds: list[float] = []
        with scratch.opened(folder) as opened, ThreadPoolExecutor(max_workers=1) as storing, self._stopping():
            for number, (step, known) in enumerate(zip(self._steps, self._found, strict=True)):
                started = time.monotonic()
                self._trees.append(None if known else self._run(step, number, opened))
                seconds.append(0.0 if known else time.monotonic() - started)
                stored.append(storing.submit(self._stored(step, number, known, seconds)))
            return [future.result() for future in stored], seconds

    @contextlib.contextmanager
    def _stopping(self) -> Iterator[None]:
        """Leave out, when a step fails or the user stops, what only makes the next bake quicker."""
        try:
            yield
        except BaseException:
            self._stopped.set()
            raise

    def _run(self, step: Step, number: int, scratch: Scratch) -> Path:
        """Run a step; return what it wrote, normalised."""
        from instar.bake.normalise import Strip, normalise
        from instar.bake.scratch import Room

        room = Room(
            scratch=scratch,
            number=number,
            step=step.name,
            place=step.place,
            lowers=lambda: self._lowers(number),
            cache=self._cache,
            epoch=self._epoch,
            report=self._report,
        )
        strip = {"base": Strip.LOGS, "packages": Strip.LOGS, "python": Strip.WORLD, "run": Strip.WORLD}
        with _failures(room):
            try:
                step.work(room)
            finally:
                room.close()
            normalise(room.upper, epoch=self._epoch, strip=strip.get(step.kind, Strip.NOTHING))
        return room.upper

    def _lowers(self, number: int) -> list[Path]:
        """Return the trees or mounts of the layers below step ``number``, topmost first."""
        lowers = []
        for tree, known in zip(self._trees[:number], self._found, strict=False):
            if tree is not None:
                lowers.append(tree)
            elif known is not None:
                lowers.append(self._images.mount(known))
        return lowers[::-1]

    def _stored(self, step: Step, number: int, known: Layer | None, seconds: list[float]) -> Callable[[], Layer]:
        tree = self._trees[number]

        def store() -> Layer:
            if known is not None or tree is None:
                assert known is not None
                return known
            started = time.monotonic()
            layer = self._store.add_layer(tree, step=step.name, epoch=self._epoch)
            self._records.add(step.key, layer)
            seconds[number] += time.monotonic() - started
            told = f"{step.name} · {_size(layer.size_bytes)} · {seconds[number]:.2f} s"
            self._report(Progress(stage="bake", text=told))
            if layer.size_bytes >= _LARGE_BYTES and not self._stopped.is_set():
                self._images.provide(layer, tree)
            return layer

        return store


@contextlib.contextmanager
def _failures(room: Room) -> Iterator[None]:
    """Make whatever goes wrong in a step name the step and its place."""
    try:
        yield
    except StepFailed:
        raise
    except BakeError as error:
        raise room.failed(error.message, hint=error.hint) from error
    except OSError as error:
        where = f": '{error.filename}'" if error.filename else ""
        raise room.failed(f"{error.strerror or error}{where}") from error


def _known(steps: Sequence[Step], records: Records) -> list[Layer | None]:
    return [records.find(step.key) for step in steps]


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


def _size(size_bytes: int) -> str:
    value = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
