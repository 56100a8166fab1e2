"""Where a bake works, and what is left when one is killed.

STATE/steps/
├── KEY.json                   what a step gave            (records.py)
├── failed/                    what failed commands printed (transcript.py)
└── work/NAME/                 a running bake's own, flocked by it
    ├── memory/                a tmpfs
    │   ├── plate/             lies beneath every root
    │   ├── nothing/           lies beneath a stage that is only read
│   ├── N/root             where the overlay of step N is mounted
│   ├── N/stages/NAME      where the stage is mounted out of which step N takes
    │   └── N/box/             the sandbox's own           (host/isolation/sandbox.py)
    └── N/upper, N/work        what step N wrote: its layer, in overlay form; in memory/N when it is known to be small

A small tree lives for a moment and is made in memory: on a disk, making and removing it costs more than writing it, of
many small files many times more.
The directory is made before anything that is named after it (its sandbox is ``NAME``), so that all that a killed bake
left is found by a directory that nobody holds: :func:`clear_leftovers`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from instar.bake import transcript
from instar.bake.root import Root
from instar.errors import StepFailed
from instar.host.filesystems import trees
from instar.host.isolation import sandbox
from instar.host.kernel import memory, mounts
from instar.host.processes import output
from instar.model.progress import Progress, Report
from instar.process import PATH

if TYPE_CHECKING:
    from instar.fetch.cache import Cache

_SMALL_PART = 16  # of the memory that is available, so much is for all small trees of a bake together
_SMALL_BYTES = 900 << 20  # and no more than this
_SLACK_BYTES = 64 << 20
_LEAST_MEMORY_BYTES = 512 << 20
_TIMEOUT_S = 3600.0


class Scratch:
    """The directory of one bake, at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.memory = path / "memory"
        self.plate = self.memory / "plate"
        self.left_bytes = min(_SMALL_BYTES, memory.available_bytes() // _SMALL_PART)

    def has_memory_for(self, size_bytes: int | None) -> bool:
        """Tell whether a tree of that size, None: nobody knows, is made in memory; what it takes is no other's then."""
        if size_bytes is None or size_bytes > self.left_bytes:
            return False
        self.left_bytes -= size_bytes
        return True

    def show(self, lowers: Sequence[Path], target: Path) -> Path:
        """Mount what a stage left at ``target``, read-only: ``lowers``, topmost first. Raises HostError."""
        nothing = self.memory / "nothing"  # an overlay that is not written to has two lowers at least
        nothing.mkdir(exist_ok=True)
        target.mkdir(parents=True)
        mounts.mount_overlay([*lowers, nothing], target)
        return target


@contextlib.contextmanager
def opened(steps: Path, mark: str) -> Iterator[Scratch]:
    """Give a new directory below ``steps``; it and all that was mounted in it are gone afterwards.

    ``mark`` is the state directory's, which all that is named after this directory then carries.
    """
    scratch = Scratch(steps / "work" / f"{mark}-{os.urandom(4).hex()}".lstrip("-"))
    (steps / "work").mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch.path.mkdir(mode=0o700)
    descriptor = os.open(scratch.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        scratch.memory.mkdir()
        mounts.mount_tmpfs(scratch.memory, size_bytes=2 * scratch.left_bytes + _SLACK_BYTES)
        sandbox.make_plate(scratch.plate)
        yield scratch
    finally:
        mounts.unmount_all(scratch.path)
        _remove(scratch)
        os.close(descriptor)


def _remove(scratch: Scratch) -> None:
    try:
        scratch.memory.rmdir()
        scratch.path.rmdir()  # nothing was made on the disk, and no other program is needed
    except OSError:
        trees.remove(scratch.path)


def clear_leftovers(steps: Path) -> tuple[str, ...]:
    """Remove what killed bakes left: processes, cgroups, mounts, files. Return the names. Raises HostError."""
    cleared = []
    for path in sorted((steps / "work").iterdir()) if (steps / "work").is_dir() else ():
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            sandbox.clear(path.name, path / "memory/box")
            mounts.unmount_all(path)
            trees.remove(path)
            cleared.append(path.name)
        except BlockingIOError:
            pass  # a bake that runs
        finally:
            os.close(descriptor)
    return tuple(cleared)


class Room:
    """Where one step works: the layers beneath it, and a place for what it writes. Nothing is mounted until needed."""

    def __init__(
        self,
        *,
        scratch: Scratch,
        number: int,
        step: str,
        key: str = "",
        place: str | None,
        small: bool,
        lowers: Callable[[], Sequence[Path]],
        stages: Callable[[str], Sequence[Path]],
        user: tuple[int, int] | None,
        cache: Cache,
        epoch: int,
        bake_format: int,
        architecture: str,
        declared: bool,
        report: Report,
        verb: str = "bake",
    ) -> None:
        """``lowers`` gives the layers beneath, topmost first, ``stages`` those of a stage; ``user`` is the image's user
        and its group, once there; ``declared``: that it is for this architecture is what its author says."""
        self.declared = declared
        self.step, self.place, self.cache, self.epoch = step, place, cache, epoch
        self.key = key
        self._verb = verb
        self.user, self.bake_format, self.architecture = user, bake_format, architecture
        self.folder = scratch.memory / str(number)
        self.folder.mkdir()
        self._written = self.folder if small else scratch.path / str(number)
        self.upper = self._written / "upper"
        self.upper.mkdir(parents=True)
        self.upper.chmod(0o755)
        self._scratch = scratch
        self._lowers, self._stages = lowers, stages
        self._shown: dict[str, Path] = {}
        self._report = report
        self._root: Path | None = None
        self._alone: Path | None = None

    def root(self) -> Path:
        """Return where the step's root is, with everything beneath it; what is written there lands in ``upper``.

        From the first call on, ``upper`` itself is not to be touched.
        """
        if self._root is None:
            root, work = self.folder / "root", self._written / "work"
            root.mkdir()
            work.mkdir()
            mounts.mount_overlay([*self._lowers(), self._scratch.plate], root, upper=self.upper, work=work)
            self._root = root
        return self._root

    def stage(self, name: str) -> Path:
        """Return where the files of a stage are, to be read until the room is closed."""
        if name not in self._shown:
            self._shown[name] = self._scratch.show(self._stages(name), self.folder / "stages" / name)
        return self._shown[name]

    def layers(self) -> Sequence[Path]:
        """Return the trees beneath, topmost first."""
        return self._lowers()

    def alone(self) -> Path:
        """Return an empty folder: what is put there is what the step leaves, in the place of all beneath."""
        self._alone = self._written / "alone"
        self._alone.mkdir(mode=0o755)
        return self._alone

    def folder_of(self, name: str) -> Path:
        """Return a folder beside the records of steps, for what is told of them."""
        folder = self._scratch.path.parent.parent / name
        folder.mkdir(mode=0o755, exist_ok=True)
        return folder

    @property
    def sandbox_cgroup(self) -> str:
        return sandbox.cgroup_of(self._scratch.path.name)

    def attempt(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        workdir: str,
        folders: Sequence[str],
        timeout_s: float,
        alone: bool,
    ) -> sandbox.Outcome:
        """Run a command in the sandbox, on what the step leaves ``alone`` or on all beneath, with empty ``folders``
        where there is nothing; say how it ended. What it writes is nothing that the step leaves."""
        memory_bytes = max(_LEAST_MEMORY_BYTES, memory.available_bytes() * 3 // 4)
        limits = sandbox.SandboxLimits(timeout_s=timeout_s, memory_bytes=memory_bytes, tmp_bytes=memory_bytes // 2)
        with self._tried(alone=alone) as root:
            with Root(root, epoch=self.epoch) as inside:
                for folder in (workdir, *folders):
                    inside.make_directory(folder)
            box = sandbox.Sandbox(
                name=self._scratch.path.name,
                root=root,
                folder=self.folder / "box",
                on_the_machine=self.bake_format == 1,
                workdir=workdir,
            )
            return box.run(argv, env={**env, "HOME": "/root"}, limits=limits)

    @contextlib.contextmanager
    def _tried(self, *, alone: bool) -> Iterator[Path]:
        """Give a root that may be written to, of which nothing is left."""
        if not alone:
            yield self.root()
            return
        assert self._alone is not None
        tried = self._written / "tried"
        upper, work, root = (tried / name for name in ("upper", "work", "root"))
        for folder in (upper, work, root):
            folder.mkdir(parents=True)
        mounts.mount_overlay([self._alone, self._scratch.plate], root, upper=upper, work=work)
        try:
            yield root
        finally:
            mounts.unmount(root)
            trees.remove(tried)  # the service may have filled it

    def close(self) -> None:
        """Unmount the root: ``upper`` is what the step leaves."""
        for shown in self._shown.values():
            mounts.unmount(shown)
        self._shown.clear()
        if self._root is not None:
            mounts.unmount(self._root)
            shutil.rmtree(self._written / "work")
            self._root = None
        if self._alone is not None:
            self.upper = self._alone

    def say(self, text: str) -> None:
        """Report what the step does right now."""
        self._report(Progress(stage="bake", text=f"{self.step} · {text}", kind="running"))

    def note(self, text: str) -> None:
        """Report something of the step that is to be read afterwards too."""
        self._report(Progress(stage="bake", text=f"{self.step} · {text}"))

    def warn(self, text: str) -> None:
        """Report what the author should know, and may be well."""
        self._report(Progress(stage="bake", text=f"{self.step} · {text}", kind="warning"))

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        timeout_s: float = _TIMEOUT_S,
        shown: Mapping[str, Path] | None = None,
        accept: Sequence[int] = (0,),
        on_line: Callable[[str], None] | None = None,
        user: tuple[int, int] = (0, 0),
        network: Path | None = None,
    ) -> None:
        """Run a command in the sandbox. Raises StepFailed, with its output, unless its exit status is in ``accept``."""
        memory_bytes = max(_LEAST_MEMORY_BYTES, memory.available_bytes() * 3 // 4)
        box = sandbox.Sandbox(
            name=self._scratch.path.name,
            root=self.root(),
            folder=self.folder / "box",
            on_the_machine=self.bake_format == 1,
            user=user,
            network=network,
        )
        printed = self._scratch.path / f"{self.folder.name}.txt"
        with printed.open("wb", buffering=0) as file:
            outcome = box.run(
                argv,
                env={**environment(self.epoch, self.bake_format), **env},
                limits=sandbox.SandboxLimits(
                    timeout_s=timeout_s, memory_bytes=memory_bytes, tmp_bytes=memory_bytes // 2
                ),
                shown=shown,
                on_line=on_line or self.say,
                whole=output.WholeOutput(file, transcript.LIMIT_BYTES),
            )
        if outcome.returncode not in accept:
            raise self._failed_saying(outcome, printed)

    def _failed_saying(self, outcome: sandbox.Outcome, printed: Path) -> StepFailed:
        """Return the error that says why a command failed: the lines that matter, and where all of them are kept."""
        if not outcome.output:
            return self.failed(outcome.failure)
        try:
            kept = transcript.keep(printed, self._scratch.path.parent.parent / "failed", self.step)
        except OSError:  # a full disk may be what failed
            return self.failed(outcome.failure, output=outcome.output)
        package = transcript.missing_package(kept.lines)
        what = f"add {package} to image.packages; " if package else ""
        hint = f"{what}all that it printed is kept: {kept.path}"
        return self.failed(outcome.failure, output="\n".join((*kept.lines, "")), hint=hint)

    def failed(self, cause: str, *, output: str = "", hint: str | None = None, place: str | None = None) -> StepFailed:
        """Return the error that says why the step failed."""
        return StepFailed(
            f"cannot {self._verb} '{self.step}': {cause}",
            step=self.step,
            place=place or self.place,
            output=output,
            hint=hint,
        )


def environment(epoch: int, bake_format: int) -> dict[str, str]:
    """Return what every command in a bake finds in its environment. Part of the bake format."""
    of_tex = {"FORCE_SOURCE_DATE": "1"} if bake_format > 1 else {}
    return {
        **of_tex,
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "PATH": PATH,
        "PERL_HASH_SEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "SOURCE_DATE_EPOCH": str(epoch),
        "TERM": "dumb",
        "TZ": "UTC",
    }
