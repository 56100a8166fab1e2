"""Runs the steps that aren't known, and stores what they leave.

A step's tree is stored by a second thread while the next step runs on it. What was stored is recorded at once, so that
a bake that was stopped at any moment goes on where it was.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from instar.bake import scratch
from instar.bake.normalise import Strip, normalise
from instar.bake.records import Records
from instar.bake.scratch import Room, Scratch
from instar.bake.steps import Step
from instar.errors import BakeError, StepFailed
from instar.host.isolation.sandbox import makes_user_namespaces
from instar.model.image import Layer
from instar.model.lock import Lock
from instar.model.progress import Progress, Report
from instar.model.sizes import size_text
from instar.threads import carried

if TYPE_CHECKING:
    from instar.fetch.cache import Cache
    from instar.store import Store
    from instar.store.mountable import MountableLayers

_LARGE_BYTES = 4 << 20  # a layer whose EROFS image is worth making while other work goes on
_STRIP = {
    **dict.fromkeys(("base", "packages"), Strip.INSTALLATION),
    **dict.fromkeys(("python", "run"), Strip.WORLD),
    "npm": Strip.RIGHTS,
}
_INSTALLS = frozenset({"base", "packages"})


@dataclass(slots=True)
class StepState:
    """A step and what is there of it: a ``layer`` that was known or has been stored, a ``tree`` that was just made.

    ``user``: the numbers of the image's user and its group, of the step that finds or makes it.
    """

    step: Step
    layer: Layer | None = None
    user: tuple[int, int] | None = None
    tree: Path | None = None
    seconds: float = 0.0


class Worker:
    """Does the work of one bake on its ``tasks``."""

    def __init__(
        self,
        tasks: Sequence[StepState],
        store: Store,
        cache: Cache,
        images: MountableLayers,
        lock: Lock,
        report: Report,
        *,
        mountable: bool,
        stages: Mapping[str | None, Sequence[Layer]],
        declared: bool,
    ) -> None:
        """``stages``: what the stages left that were baked before, from the lowest layer up. ``declared``: the author
        says for which platforms the image is."""
        self._tasks, self._stages, self._declared = tasks, stages, declared
        self._worth_mounting_bytes = 0 if mountable else _LARGE_BYTES
        self._store, self._cache, self._images = store, cache, images
        self._epoch, self._bake_format, self._architecture = lock.epoch, lock.bake_format, lock.architecture
        self._unguarded_report = report
        self._reporting = threading.Lock()
        self._stopped = threading.Event()

    def work(self, folder: Path, mark: str) -> None:
        """Give every task its layer. ``folder`` is where records are kept and work is done, ``mark`` its owner's.

        Raises what a step or the store raises; the layers of the steps before are stored then.
        """
        if self._bake_format > 1 and not makes_user_namespaces():
            text = "no user namespace can be made here: steps run without one, with the same few rights"
            self._report(Progress(stage="note", text=text, kind="warning"))
        records = Records(folder, self._store)
        with scratch.opened(folder, mark) as opened, _Aside() as aside, self._stopping():
            for number, task in enumerate(self._tasks):
                if task.layer is None:
                    task.tree = self._run(task, number, opened)
                    aside.do(functools.partial(self._keep, task, task.tree, records))

    @contextlib.contextmanager
    def _stopping(self) -> Iterator[None]:
        """Leave out, when a step fails or the user stops, what only makes the next bake quicker."""
        try:
            yield
        except BaseException:
            self._stopped.set()
            raise

    def _run(self, task: StepState, number: int, scratch: Scratch) -> Path:
        """Run a step; return what it wrote, normalised."""
        started = time.monotonic()
        room = Room(
            scratch=scratch,
            number=number,
            step=task.step.full_name,
            key=task.step.key,
            place=task.step.place,
            small=scratch.has_memory_for(task.step.size_bytes),
            lowers=lambda: [self._tree(below) for below in reversed(self._tasks[:number])],
            stages=lambda stage: [self._images.mount(layer) for layer in reversed(self._stages[stage])],
            user=next((below.user for below in self._tasks[:number] if below.user), None),
            cache=self._cache,
            epoch=self._epoch,
            bake_format=self._bake_format,
            architecture=self._architecture,
            declared=self._declared,
            report=self._report,
        )
        with _failures(room):
            try:
                task.step.work(room)
            finally:
                room.close()
            if task.step.kind in _INSTALLS:
                from instar.bake.debian.installed import settle_installation

                settle_installation(room.upper, room)
            elif task.step.kind == "run":
                from instar.bake.debian.installed import warn_of_keys

                warn_of_keys(room.upper, room)
            strip = _STRIP.get(task.step.kind, Strip.NOTHING)
            normalise(room.upper, epoch=self._epoch, strip=strip, asked=task.step.strip)
        task.seconds = time.monotonic() - started
        task.user = room.user if task.step.kind == "user" else None
        return room.upper

    def _report(self, progress: Progress) -> None:
        with self._reporting:
            self._unguarded_report(progress)

    def _tree(self, task: StepState) -> Path:
        """Return where the files of a step are: as it wrote them, or as they are mounted."""
        if task.tree is not None:
            return task.tree
        assert task.layer is not None
        return self._images.mount(task.layer)

    def _keep(self, task: StepState, tree: Path, records: Records) -> None:
        """Store a step's tree, beside whatever runs next."""
        started = time.monotonic()
        layer = self._store.add_layer(tree, step=task.step.name, epoch=self._epoch)
        records.add(task.step.key, layer, task.user)
        task.layer = layer
        task.seconds += time.monotonic() - started
        told = f"{task.step.full_name} · {size_text(layer.size_bytes)} · {task.seconds:.2f} s"
        self._report(Progress(stage="bake", text=told))
        if layer.size_bytes >= self._worth_mounting_bytes and not self._stopped.is_set():
            self._images.provide(layer, tree)


class _Aside:
    """Does one thing after the other in a thread of its own. What failed first is raised at the end of the block.

    (concurrent.futures would do; importing it takes longer than storing a small layer.)
    """

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._failure: BaseException | None = None
        # ^C may come before the block has begun
        self._thread = threading.Thread(target=carried(self._work), daemon=True)

    def __enter__(self) -> _Aside:
        self._thread.start()
        return self

    def do(self, work: Callable[[], None]) -> None:
        self._waiting.put(work)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._waiting.put(None)
        self._thread.join()
        if self._failure is not None and error is None:
            raise self._failure

    def _work(self) -> None:
        while work := self._waiting.get():
            if self._failure is None:
                try:
                    work()
                except BaseException as error:
                    self._failure = error


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
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise room.failed("the disk is full", hint="make room where the state directory is: df -h") from error
        where = f": '{error.filename}'" if error.filename else ""
        raise room.failed(f"{error.strerror or error}{where}") from error
