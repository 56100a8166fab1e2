"""A definition, its lock and the author's files → the steps of its bake, each with the key of its whole input.

A key is the SHA-256 of canonical JSON: the bake format, the architecture, the epoch, the step's kind with the version
of its code, its input, and the key of the step before. Whoever changes what a step leaves for the same input counts
its version up, or, once a bake format is out, makes a new format. The author's files are read for it, and nothing is
written.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instar.bake import sources
from instar.bake.ecosystems import given
from instar.bake.excluded import Ignored, excluded, ignored, surprises
from instar.bake.image import environment
from instar.bake.sources import Copy
from instar.errors import BakeError, StepFailed
from instar.frozen import dataclass
from instar.model.codec import canonical
from instar.model.definition import NEW_UID, Files, User
from instar.model.lock import BAKE_FORMATS, Lock, Package

if TYPE_CHECKING:
    from instar.bake.scratch import Room
    from instar.definition import Loaded
    from instar.ecosystems.found import Found
    from instar.model.patterns import Patterns

VERSIONS = {"base": 1, "packages": 1, "python": 1, "fetch": 1, "npm": 1, "user": 1, "files": 1, "run": 1}
_LINE_CHARACTERS = 60
_PAGE_BYTES = 4096  # what the least of files takes of memory
_NAMED_SURPRISES = 3
_PATTERNS_BYTES = 64 << 10
_NOT_BESIDE_NPM = ("node_modules", ".npmrc")  # the author's own, and what may have passwords in it


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """``name`` is for people; ``place`` is where the definition asks for it; ``work`` does it in a room.

    ``input`` is all that it depends on besides the steps before and ``strip``, which is taken out of what it installs;
    ``size_bytes`` what it will take of memory, if that is known; ``notes`` are what the author has to hear whether it
    is run or not; ``copies`` are the files that it copies; ``user`` the numbers of the image's user and its group, of
    the step that makes it, where they are known without running it.
    """

    kind: str
    name: str
    place: str
    input: Any
    work: Callable[[Room], None]
    size_bytes: int | None = None
    notes: tuple[str, ...] = ()
    user: tuple[int, int] | None = None
    copies: tuple[Copy, ...] = ()
    strip: tuple[str, ...] = ()
    key: str = ""


def plan_steps(loaded: Loaded, lock: Lock) -> tuple[Step, ...]:
    """Return the steps in their order. Raises StepFailed for files that cannot be copied, BakeError."""
    if lock.bake_format not in BAKE_FORMATS:
        raise BakeError(
            f"cannot bake format {lock.bake_format}: this Instar bakes {' and '.join(map(str, BAKE_FORMATS))}",
            hint="use the Instar that made the lock, or make a new one: instar lock --update",
        )
    steps: list[Step] = []
    before = ""
    for step in _steps(loaded, lock):
        before = _key(step, lock, before)
        steps.append(dataclasses.replace(step, key=before))
    return tuple(steps)


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


def _steps(loaded: Loaded, lock: Lock) -> Iterator[Step]:
    image = loaded.definition.image
    yield _base(loaded, lock)
    if _of(lock, "packages"):
        yield _packages(loaded, lock)
    if image.python and lock.python:
        yield _python(loaded, lock.python, lock)
    if image.fetch:
        yield _fetch(loaded)
    yield from _installed(loaded, lock)
    yield _user(loaded, image.user, lock.bake_format)
    if image.files:
        yield _files(loaded, lock.bake_format)
    for number, line in enumerate(image.run):
        yield _run(loaded, number, line)


def _base(loaded: Loaded, lock: Lock) -> Step:
    def work(room: Room) -> None:
        from instar.bake.contents import require_packages
        from instar.bake.debian import bake_base

        require_packages(packages, lock, room.cache)
        bake_base(packages, lock.architecture, room)

    packages = _of(lock, "base")
    place = loaded.places.place_text("image", "base")
    strip = _stripped(loaded)
    return Step(kind="base", name="base", place=place, input=_identity(packages), work=work, strip=strip)


def _packages(loaded: Loaded, lock: Lock) -> Step:
    def work(room: Room) -> None:
        from instar.bake.contents import require_packages
        from instar.bake.debian import bake_packages

        require_packages(packages, lock, room.cache)
        bake_packages(packages, room)

    packages = _of(lock, "packages")
    place = loaded.places.place_text("image", "packages")
    strip = _stripped(loaded)
    return Step(kind="packages", name="packages", place=place, input=_identity(packages), work=work, strip=strip)


def _stripped(loaded: Loaded) -> tuple[str, ...]:
    return tuple(sorted(loaded.definition.image.strip))


def _python(loaded: Loaded, version: str, lock: Lock) -> Step:
    def work(room: Room) -> None:
        from instar.bake.contents import require_wheels
        from instar.bake.python import bake_python

        require_wheels(lock, room.cache)
        bake_python(version, lock.wheels, lock.architecture, room)

    wheels = [[wheel.filename, wheel.sha256] for wheel in lock.wheels]
    place = loaded.places.place_text("image", "python")
    return Step(kind="python", name="python", place=place, input={"python": version, "wheels": wheels}, work=work)


def _fetch(loaded: Loaded) -> Step:
    def work(room: Room) -> None:
        from instar.bake.downloads import bake_fetch

        bake_fetch(downloads, places, room)

    downloads = loaded.definition.image.fetch
    places = [loaded.places.place_text("image", "fetch", number) for number in range(len(downloads))]
    given = [[one.sha256, one.to, one.unpack, one.mode] for one in downloads]
    return Step(kind="fetch", name="fetch", place=loaded.places.place_text("image", "fetch"), input=given, work=work)


def _installed(loaded: Loaded, lock: Lock) -> Iterator[Step]:
    """Yield a step for each use of an ecosystem that installs into the image."""
    if not loaded.definition.image.npm:
        return
    from instar.ecosystems.found import find_all

    path = environment(loaded.definition)["PATH"]
    found = list(find_all(loaded, lock.architecture))
    for number, one in enumerate(found, 1):
        yield _install(one, lock, path, f" {number}" if len(found) > 1 else "")


def _install(found: Found, lock: Lock, path: str, number: str) -> Step:
    from instar.ecosystems.found import artifacts_of

    artifacts = artifacts_of(found, lock)

    def work(room: Room) -> None:
        from instar.bake.ecosystems import bake_install

        bake_install(found, artifacts, path, room)

    kind = found.ecosystem.name
    return Step(kind=kind, name=f"{kind}{number}", place=found.place, input=given(found, artifacts, path), work=work)


def _user(loaded: Loaded, user: User, bake_format: int) -> Step:
    def work(room: Room) -> None:
        from instar.bake import user as of_user

        if numbers:
            of_user.bake_format_1(user.name, numbers[0], room)
        else:
            of_user.bake_user(user, room)

    place = loaded.places.place_text("image", "user")
    numbers = _numbers_of_format_1(user) if bake_format == 1 else None
    given = {"name": user.name, "uid": numbers[0]} if numbers else [user.name, user.uid, user.gid]
    return Step(kind="user", name="user", place=place, input=given, work=work, size_bytes=0, user=numbers)


def _numbers_of_format_1(user: User) -> tuple[int, int]:
    """Return the numbers that bake format 1 gave a user, whatever a package said: both are the same."""
    uid = user.uid or NEW_UID
    if user.gid not in (None, uid):
        hint = "make a lock of format 2: instar lock"
        raise BakeError("cannot bake 'image.user': bake format 1 knows no 'gid'", hint=hint)
    return uid, uid


def _files(loaded: Loaded, bake_format: int) -> Step:
    def work(room: Room) -> None:
        from instar.bake.files import bake_files

        bake_files(copies, room)

    never, specs = _never_copied(loaded), loaded.definition.image.files
    ignore = _ignored(loaded)
    copies = [_copy(loaded, number, spec, never, ignore, bake_format) for number, spec in enumerate(specs)]
    given = [
        {
            "to": copy.to,
            "owner": list(copy.owner) if copy.owner else "user",
            "mode": copy.mode,
            "found": sources.identity(copy.found),
        }
        for copy in copies
    ]
    size_bytes = sum(_in_memory(found.size_bytes) for copy in copies for found in copy.found)
    notes = tuple(_surprise(copy, spec) for copy, spec in zip(copies, specs, strict=True)) if bake_format == 1 else ()
    place = loaded.places.place_text("image", "files")
    return Step(
        kind="files",
        name="files",
        place=place,
        input=given,
        work=work,
        size_bytes=size_bytes,
        copies=tuple(copies),
        notes=tuple(filter(None, notes)),
    )


def _run(loaded: Loaded, number: int, line: str) -> Step:
    def work(room: Room) -> None:
        from instar.bake.run import bake_line

        bake_line(line, env, loaded.definition.image.run_timeout_ms, room)

    env = dict(environment(loaded.definition))
    shown = " ".join(line.split())
    shown = shown if len(shown) <= _LINE_CHARACTERS else shown[: _LINE_CHARACTERS - 1] + "…"
    place = loaded.places.place_text("image", "run", number)
    return Step(kind="run", name=f"run {number + 1}: {shown}", place=place, input={"line": line, "env": env}, work=work)


def _in_memory(size_bytes: int) -> int:
    """Return what a file takes of a tmpfs: whole pages, and one for itself."""
    return (-(-size_bytes // _PAGE_BYTES) + 1) * _PAGE_BYTES


def _surprise(copy: Copy, spec: Files) -> str:
    """Say what is copied although its author, who read ``exclude`` as .gitignore has it, believes that it is not."""
    paths = [(found.path, found.kind == "directory") for found in copy.found]
    named = surprises(spec.exclude, paths) if spec.exclude else ()
    if not named:
        return ""
    shown = ", ".join(f"'{spec.source.rstrip('/')}/{path}'" for path in named[:_NAMED_SURPRISES])
    more = f" and {len(named) - _NAMED_SURPRISES} more" if len(named) > _NAMED_SURPRISES else ""
    return (
        f"{copy.place}: {shown}{more} copied, though 'exclude' reads otherwise: in bake format 1 its patterns are not"
        " those of .gitignore; with format 2 they are: instar lock"
    )


def _ignored(loaded: Loaded) -> Patterns | None:
    """Return what ``.instarignore`` beside the definition leaves out, None where there is nothing of it."""
    from instar.definition.author_files import has_author_file, read_author_file
    from instar.model.patterns import NoPattern

    if not has_author_file(loaded.folder, sources.IGNORE_FILE):
        return None
    place = loaded.places.place_text("image", "files")
    try:
        return ignored(
            read_author_file(loaded.folder, sources.IGNORE_FILE, _PATTERNS_BYTES).decode(errors="surrogateescape")
        )
    except (OSError, NoPattern) as error:
        cause = error.strerror if isinstance(error, OSError) else str(error)
        raise StepFailed(
            f"cannot bake 'files': '{sources.IGNORE_FILE}': {cause}", step="files", place=place, output=""
        ) from error


def _copy(
    loaded: Loaded, number: int, spec: Files, never: frozenset[Path], ignore: Patterns | None, bake_format: int
) -> Copy:
    place = loaded.places.place_text("image", "files", number)
    exclude = excluded(spec.exclude, bake_format)
    if ignore is not None:
        exclude = Ignored(ignore, spec.source.rstrip("/"), exclude)
    try:
        origin, found = sources.find(loaded.folder, spec.source, exclude=exclude, never=never)
    except sources.UnusableFile as error:
        raise StepFailed(f"cannot bake 'files': {error}", step="files", place=place, output="") from error
    return Copy(
        origin=origin,
        to=spec.to,
        owner=_owner(spec.owner, loaded.definition.image.user, bake_format),
        mode=spec.mode,
        found=found,
        place=place,
    )


def _owner(text: str, user: User, bake_format: int) -> tuple[int, int] | None:
    """Return the numbers of an owner, which the definition has checked: root, the image's user, or numbers.

    None: the image's user, whose numbers the step before finds out.
    """
    if text == "root":
        return 0, 0
    if text == user.name:
        return _numbers_of_format_1(user) if bake_format == 1 else None
    uid, _, gid = text.partition(":")
    return int(uid), int(gid)


def _never_copied(loaded: Loaded) -> frozenset[Path]:
    """Return the files that no image gets, whatever ``files`` says, as the directory entries that they are."""
    file = loaded.folder / Path(loaded.file).name
    named = {file, file.with_suffix(".lock")}
    for environment_ in loaded.definition.environments.values():
        own = (environment_.tls.key_file,) if environment_.tls.key_file else ()
        named.update(loaded.folder / secret for secret in (*environment_.secrets.values(), *own))
    for npm in loaded.definition.image.npm:
        named.update(loaded.folder / npm.source / name for name in _NOT_BESIDE_NPM)
    return frozenset(path.parent.resolve() / path.name for path in named) | {path.resolve() for path in named}


def _of(lock: Lock, step: str) -> tuple[Package, ...]:
    return tuple(package for package in lock.packages if package.step == step)


def _identity(packages: tuple[Package, ...]) -> list[list[str]]:
    return [[package.name, package.version, package.architecture, package.sha256] for package in packages]
