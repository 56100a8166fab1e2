"""A definition, its lock and the author's files → the steps of its bake, each with the key of its whole input.

A key is the SHA-256 of canonical JSON: the bake format, the architecture, the epoch, the step's kind with the version
of its code, its input, and the key of the step before. Whoever changes what a step leaves for the same input counts
its version up, or, once a bake format is out, makes a new format. The author's files are read for it, and nothing is
written.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from instar.bake.files import copies
from instar.bake.files.sources import Copy
from instar.bake.image import environment
from instar.bake.stages.takes import Contents, Take
from instar.errors import BakeError
from instar.frozen import dataclass
from instar.model.base import is_debian
from instar.model.codec import canonical
from instar.model.image import Layer
from instar.model.image_spec import STAGES, ImageSpec, User
from instar.model.lock import BAKE_FORMATS, BaseImage, Lock, Package
from instar.model.slim import AT_THE_END

if TYPE_CHECKING:
    from instar.bake.ecosystems import Offered
    from instar.bake.scratch import Room
    from instar.definition.parts import ImagePart
    from instar.ecosystems.found import EcosystemUse
    from instar.ecosystems.protocol import Installing

_KINDS = ("base", "layer", "packages", "python", "fetch", "npm", "user", "files", "run", "slim")
_RUNNING = frozenset({"base", "packages", "python", "npm", "run"})
VERSIONS = {**dict.fromkeys(_KINDS, 1), "npm": 2}
_LINE_CHARACTERS = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """``name`` is for people; ``place`` is where the definition asks for it; ``work`` does it in a room.

    ``input`` is all that it depends on besides the steps before and ``strip``, which is taken out of what it installs;
    ``size_bytes`` what it will take of memory, if that is known; ``notes`` are what the author has to hear whether it
    is run or not; ``copies`` are the files that it copies; ``user`` the numbers of the image's user and its group, of
    the step that makes it, where they are known without running it; ``given`` a layer of the image that it stands on;
    ``stage`` whose it is, None: the image's; ``fetches``: it takes files from the cache. ``key`` is empty as long as
    it is not known.
    """

    kind: str
    name: str
    place: str
    input: Any
    work: Callable[[Room], None]
    size_bytes: int | None = None
    notes: tuple[str, ...] = ()
    user: tuple[int, int] | None = None
    copies: tuple[Copy | Take, ...] = ()
    strip: tuple[str, ...] = ()
    stage: str | None = None
    given: Layer | None = None
    fetches: bool = False
    key: str = ""

    @property
    def full_name(self) -> str:
        """Its name among the steps of all parts."""
        return self.name if self.stage is None else f"{STAGES}{self.stage} {self.name}"

    @property
    def runs_programs(self) -> bool:
        """Whether nothing comes of it unless programs of the image run here."""
        return self.kind in _RUNNING

    @property
    def takes(self) -> tuple[Take, ...]:
        return tuple(copy for copy in self.copies if isinstance(copy, Take))


T = TypeVar("T")


def of_the_image(steps: Sequence[T], kind: Callable[[T], str]) -> Sequence[T]:
    """Return those of a part's steps whose layers it has: one that leaves it slim stands for all before it."""
    return steps[-1:] if steps and kind(steps[-1]) == "slim" else steps


def plan_steps(part: ImagePart, lock: Lock, contents: Contents | None = None) -> tuple[Step, ...]:
    """Return the steps of the image, or of a stage, in their order; ``lock`` is what is locked for it.

    ``contents`` is what is known of the stages before. Raises StepFailed for files that cannot be copied, BakeError.
    """
    if lock.bake_format not in BAKE_FORMATS:
        raise BakeError(
            f"cannot bake format {lock.bake_format}: this Instar bakes {' and '.join(map(str, BAKE_FORMATS))}",
            hint="use the Instar that made the lock, or make a new one: instar lock --update",
        )
    steps = (dataclasses.replace(step, stage=part.stage) for step in _with_slim(part, lock, _steps(part, lock)))
    return keyed(steps, lock, contents)


def keyed(steps: Iterable[Step], lock: Lock, contents: Contents | None = None) -> tuple[Step, ...]:
    """Return steps with their keys, as far as they are known: one that takes out of a stage has one when ``contents``
    says what, and so have those after it."""
    found: list[Step] = []
    before: str | None = ""
    for step in steps:
        known = _informed(step, contents) if contents and step.takes else step
        is_known = before is not None and all(take.content for take in known.takes)
        before = _key(known, lock, before or "") if is_known else None
        found.append(dataclasses.replace(known, key=before or ""))
    return tuple(found)


def _informed(step: Step, contents: Contents) -> Step:
    """Return a step that knows what is taken, as far as ``contents`` does."""
    given = (
        dataclasses.replace(copy, content=contents.find(copy)) if isinstance(copy, Take) else copy
        for copy in step.copies
    )
    return dataclasses.replace(step, **_copying(tuple(given)))


def _copying(given: tuple[Copy | Take, ...]) -> dict[str, Any]:
    """Return what a step that copies is made of."""

    def work(room: Room) -> None:
        from instar.bake.files.step import bake_files

        bake_files(given, room)

    size_bytes = copies.size_in_memory_bytes(given)
    return {"work": work, "input": copies.identity(given), "size_bytes": size_bytes, "copies": given}


def _key(step: Step, lock: Lock, before: str) -> str:
    whole = {
        "format": lock.bake_format,
        "architecture": lock.architecture,
        "epoch": lock.epoch,
        "kind": step.kind,
        "version": VERSIONS[step.kind],
        "input": step.input,
        "before": before,
        **({"strip": step.strip} if step.strip else {}),
    }
    return hashlib.sha256(canonical(whole)).hexdigest()


def _steps(part: ImagePart, lock: Lock) -> Iterator[Step]:
    made = part.made
    if is_debian(made.base):
        yield _base(part, lock)
    elif lock.base is not None:
        yield from _layers(part, lock.base)
    if _of(lock, "packages"):
        yield _packages(part, lock)
    if made.python and lock.python:
        yield _python(part, lock.python, lock)
    if made.fetch:
        yield _fetch(part)
    if made.npm:
        yield from _installed(part, lock)
    if isinstance(made, ImageSpec):
        yield _user(part, made.user, lock.bake_format)
    if made.files:
        yield _files(part, lock.bake_format)
    offered = _offered(part, lock) if made.run and made.ecosystems else None
    for number, line in enumerate(made.run):
        yield _run(part, lock, number, line, offered)


def _with_slim(part: ImagePart, lock: Lock, steps: Iterable[Step]) -> Iterator[Step]:
    """Yield the steps, and after them the one that leaves the image slim, where the definition says so."""
    made, kinds = part.made, list[str]()
    for step in steps:
        kinds.append(step.kind)
        yield step
    if not isinstance(made, ImageSpec):
        return
    if made.slim is not None or set(made.strip).intersection(AT_THE_END):
        yield _slim(part, made, lock, tuple(kinds))


def _slim(part: ImagePart, made: ImageSpec, lock: Lock, kinds: tuple[str, ...]) -> Step:
    def work(room: Room) -> None:
        from instar.bake.slim.plan import work_of_slim

        work_of_slim(part, made, lock, kinds, room)

    from instar.bake.slim.plan import identity_of_slim

    given = identity_of_slim(made, part.loaded.definition, lock)
    return Step(kind="slim", name="slim", place=part.place("slim" if made.slim else "strip"), input=given, work=work)


def _base(part: ImagePart, lock: Lock) -> Step:
    def work(room: Room) -> None:
        from instar.bake.contents import require_packages
        from instar.bake.debian.steps import bake_base

        require_packages(packages, lock, room.cache)
        bake_base(packages, lock.architecture, room)

    packages = _of(lock, "base")
    place = part.place("base")
    strip = _stripped(part)
    return Step(kind="base", name="base", place=place, input=_identity(packages), work=work, strip=strip, fetches=True)


def _layers(part: ImagePart, base: BaseImage) -> Iterator[Step]:
    """Yield the layers of the image that it stands on, as steps for which nothing has to be run."""

    def work(room: Room) -> None:
        raise room.failed("it is not in the store", hint="bake again, which brings it there: instar bake")

    place, count = part.place("base"), len(base.layers)
    for number, layer in enumerate(base.layers, 1):
        name, given = f"base {number}/{count}", {"image": base.key, "layer": number}
        named = dataclasses.replace(layer, step=name) if layer is not None else None
        yield Step(kind="layer", name=name, place=place, input=given, work=work, given=named)


def _packages(part: ImagePart, lock: Lock) -> Step:
    def work(room: Room) -> None:
        from instar.bake.contents import require_packages
        from instar.bake.debian.steps import bake_packages

        require_packages(packages, lock, room.cache)
        bake_packages(packages, room, lock.installed)

    packages = _of(lock, "packages")
    place = part.place("packages")
    strip = _stripped(part)
    return Step(
        kind="packages", name="packages", place=place, input=_identity(packages), work=work, strip=strip, fetches=True
    )


def _stripped(part: ImagePart) -> tuple[str, ...]:
    return tuple(sorted(set(part.made.strip).difference(AT_THE_END)))


def _python(part: ImagePart, version: str, lock: Lock) -> Step:
    def work(room: Room) -> None:
        from instar.bake.contents import require_wheels
        from instar.bake.wheels.step import bake_python

        require_wheels(lock, room.cache)
        bake_python(version, lock.wheels, lock.architecture, room, other)

    wheels = [[wheel.filename, wheel.sha256] for wheel in lock.wheels]
    place, other = part.place("python"), lock.installed.python if lock.installed is not None else None
    given = {"python": version, "wheels": wheels, **({"at": other} if other else {})}
    return Step(kind="python", name="python", place=place, input=given, work=work, fetches=True)


def _fetch(part: ImagePart) -> Step:
    def work(room: Room) -> None:
        from instar.bake.files.downloads import bake_fetch

        bake_fetch(downloads, places, room)

    downloads = part.made.fetch
    places = [part.place("fetch", number) for number in range(len(downloads))]
    given = [[one.sha256, one.to, one.is_unpacked, one.mode] for one in downloads]
    return Step(kind="fetch", name="fetch", place=part.place("fetch"), input=given, work=work, fetches=True)


def _installed(part: ImagePart, lock: Lock) -> Iterator[Step]:
    """Yield a step for each use of an ecosystem that installs into the image."""
    from instar.ecosystems.found import find_installing

    path = environment(part.made, lock)["PATH"]
    found = list(find_installing(part, lock.architecture))
    for number, one in enumerate(found, 1):
        yield _install(one, lock, path, f" {number}" if len(found) > 1 else "")


def _install(found: EcosystemUse[Installing], lock: Lock, path: str, number: str) -> Step:
    from instar.bake.ecosystems import given
    from instar.ecosystems.found import artifacts_of

    def work(room: Room) -> None:
        from instar.bake.ecosystems import bake_install

        bake_install(found, artifacts, path, room)

    artifacts, kind = artifacts_of(found, lock), found.ecosystem.name
    return Step(
        kind=kind,
        name=f"{kind}{number}",
        place=found.place,
        input=given(found, artifacts, path),
        work=work,
        fetches=True,
    )


def _user(part: ImagePart, user: User, bake_format: int) -> Step:
    def work(room: Room) -> None:
        from instar.bake import user as of_user

        if numbers:
            of_user.bake_format_1(user.name, numbers[0], room)
        else:
            of_user.bake_user(user, room)

    place = part.place("user")
    numbers = copies.numbers_of_format_1(user) if bake_format == 1 else None
    given = {"name": user.name, "uid": numbers[0]} if numbers else [user.name, user.uid, user.gid]
    return Step(kind="user", name="user", place=place, input=given, work=work, size_bytes=0, user=numbers)


def _files(part: ImagePart, bake_format: int) -> Step:
    found = copies.plan_copies(part, bake_format)
    notes = (
        *(copies.surprises_of_format_1(found, part.made.files) if bake_format == 1 else ()),
        *copies.surprises_of_docker(part, found),
    )
    return Step(kind="files", name="files", place=part.place("files"), notes=notes, **_copying(found))


def _offered(part: ImagePart, lock: Lock) -> Offered:
    """Return what the lines of ``run`` have of ecosystems whose tools they call."""
    from instar.bake.ecosystems import Offered
    from instar.ecosystems.found import artifacts_of, find_offering

    return Offered.of([(one.ecosystem, artifacts_of(one, lock)) for one in find_offering(part, lock.architecture)])


def _run(part: ImagePart, lock: Lock, number: int, line: str, offered: Offered | None) -> Step:
    def work(room: Room) -> None:
        from instar.bake.run import bake_line

        bake_line(line, env, part.made.run_timeout_ms, room, offered)

    env = {**environment(part.made, lock), **_target(part)}
    shown = " ".join(line.split())
    shown = shown if len(shown) <= _LINE_CHARACTERS else shown[: _LINE_CHARACTERS - 1] + "…"
    given = {"line": line, "env": env, **({"offered": offered.identity} if offered else {})}
    place = part.place("run", number)
    return Step(
        kind="run", name=f"run {number + 1}: {shown}", place=place, input=given, work=work, fetches=bool(offered)
    )


def _target(part: ImagePart) -> Mapping[str, str]:
    """Return what the lines of a stage with a platform of its own find of the image's. Source: Dockerfile reference,
    "Automatic platform ARGs in the global scope"."""
    if part.made.platform is None or part.target is None:
        return {}
    system, _, architecture = part.target.partition("/")
    return {"TARGETPLATFORM": part.target, "TARGETOS": system, "TARGETARCH": architecture}


def _of(lock: Lock, step: str) -> tuple[Package, ...]:
    return tuple(package for package in lock.packages if package.step == step)


def _identity(packages: tuple[Package, ...]) -> list[list[str]]:
    return [[package.name, package.version, package.architecture, package.sha256] for package in packages]
