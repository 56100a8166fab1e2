"""Does a lock still fit its definition? Comparisons only: no network, and milliseconds."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from instar.definition.author_files import has_author_file
from instar.definition.parts import ImagePart, parts_of
from instar.errors import DefinitionError, LockStale, Problem, ResolveError
from instar.fetch.requirements import Requirement, project_of, read_requirements
from instar.lock.archives import archives_of, moved_archives
from instar.lock.artifacts import moved_artifacts
from instar.lock.beneath import looks_beneath
from instar.lock.ground import groundless_packages, groundless_wheels, missing_packages, missing_wheels
from instar.lock.wanted import wanted_of
from instar.model.architectures import ARCHITECTURES, platform_of
from instar.model.lock import Lock, Requested

if TYPE_CHECKING:
    from instar.definition import Loaded

_SHOWN = 20


def require_fit(lock: Lock, loaded: Loaded) -> None:
    """Return when ``lock`` was made for just what the definition asks for.

    Raises:
        LockStale: it wasn't; says which lines moved. Or it is for another architecture.
        DefinitionError: the requirements file is missing or malformed.
    """
    platforms = platforms_of(loaded)
    if not loaded.definition.image.platforms and not lock.platforms and lock.architecture != host_architecture():
        raise LockStale(
            f"cannot use '{_name(loaded)}': it was made for {lock.architecture},"
            f" and this machine is {host_architecture()}",
            hint="instar lock makes one for this machine",
        )
    parts = parts_of(loaded)
    moved = list(_moved_platforms(lock, loaded))
    for platform in platforms if not moved else ():
        locked = lock.find_platform(platform)
        assert locked is not None  # else it has moved
        found = [*_moved_stages(locked, loaded), *_moved(locked, parts), *_of_others(locked, parts)]
        found = found or [line for part in parts for line in _baseless(locked.of(part.stage), part)]
        moved += [line for line in found if line not in moved]  # one that is said of each platform, once
    if moved:
        more = [f"and {len(moved) - _SHOWN} more"] if len(moved) > _SHOWN else []
        lines = "\n".join((*moved[:_SHOWN], *more))
        raise LockStale(
            f"cannot use '{_name(loaded)}': it no longer fits the definition\n{lines}",
            hint="instar lock resolves what moved and keeps the rest",
        )


def host_architecture() -> str:
    """Return this machine's architecture by Debian's name. Raises ResolveError when it is none that images have."""
    machine = os.uname().machine
    if machine not in ARCHITECTURES:
        raise ResolveError(f"cannot lock for '{machine}': known are {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[machine]


def platforms_of(loaded: Loaded) -> tuple[str, ...]:
    """Return the platforms that a definition is locked for, sorted: this machine's, where it names none."""
    return tuple(sorted(loaded.definition.image.platforms)) or (platform_of(host_architecture()),)


def requested(part: ImagePart, requirements: Sequence[Requirement]) -> Requested:
    """Return what a lock of this part is made for."""
    made = part.made
    lines = tuple(one.written for one in requirements)
    return Requested(
        base=made.base,
        packages=made.packages,
        requirements=lines,
        suites=tuple(sorted(made.suites)),
        archives=tuple(one.requested for one in archives_of(part)),
        indexes=_by_name(part.made.indexes),
        from_source=_by_name(part.made.from_source),
    )


def _by_name(projects: Mapping[str, Sequence[str]]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple(sorted((name, tuple(sorted(named))) for name, named in projects.items()))


def requirements_of(part: ImagePart) -> tuple[Requirement, ...]:
    """Return the part's Python requirements; none when it has no ``python``. Raises DefinitionError."""
    name, folder = part.made.python, part.loaded.folder
    if name is None:
        return ()
    if not has_author_file(folder, name):
        raise _missing(part, name)
    return read_requirements(folder, name)


def _missing(part: ImagePart, name: str) -> DefinitionError:
    line, column = part.loaded.places.find(*part.path, "python")
    message = f"cannot find '{name}': there is no such file beside the definition"
    return DefinitionError([Problem(file=part.loaded.file, line=line, column=column, message=message)])


def _moved_platforms(lock: Lock, loaded: Loaded) -> Iterator[str]:
    place, file = loaded.places.place_text("image", "platforms"), _name(loaded)
    locked, now = (platform_of(lock.architecture), *lock.platforms), platforms_of(loaded)
    for platform in now:
        if platform not in locked:
            yield f"{place}: platform '{platform}' is not in {file}"
    for platform in locked:
        if platform not in now:
            yield f"{place}: platform '{platform}' is in {file} and no longer here"


def _of_others(lock: Lock, parts: Sequence[ImagePart]) -> Iterator[str]:
    """Yield the stages that are locked for another platform than they are baked for."""
    for part in parts:
        wanted = part.made.platform or platform_of(lock.architecture)
        found = platform_of(lock.of(part.stage).architecture) if part.stage in (None, *lock.build) else wanted
        if found != wanted:
            yield f"{part.place('platform')}: stage '{part.stage}' is locked for {found}, and is for {wanted}"


def _moved_stages(lock: Lock, loaded: Loaded) -> Iterator[str]:
    stages, place = loaded.definition.build, loaded.places.place_text
    for stage in stages:
        if stage not in lock.build:
            yield f"{place('build', stage)}: stage '{stage}' is not in {_name(loaded)}"
    for stage in sorted(lock.build.keys() - stages.keys()):
        yield f"{place('build')}: stage '{stage}' is in {_name(loaded)} and no longer here"


def _moved(lock: Lock, parts: Sequence[ImagePart]) -> Iterator[str]:
    for part in parts:
        if part.stage is None or part.stage in lock.build:
            yield from _moved_packages(lock.of(part.stage), part)
            if looks_beneath(part.made) != (lock.of(part.stage).installed is not None):
                what = "is not" if looks_beneath(part.made) else "is, and nothing goes onto it,"
                yield f"{part.place('base')}: what the base has installed {what} in {_name(part.loaded)}"
            yield from _moved_requirements(lock.of(part.stage), part, requirements_of(part))
            yield from moved_artifacts(lock.of(part.stage), part, _name(part.loaded))


def _moved_packages(lock: Lock, part: ImagePart) -> Iterator[str]:
    made, then, file = part.made, lock.requested, _name(part.loaded)
    if made.base != then.base:
        yield f"{part.place('base')}: base '{made.base}' was '{then.base}' when locked"
    if sorted(made.suites) != sorted(then.suites):
        had, has = ", ".join(then.suites) or "none", ", ".join(made.suites) or "none"
        yield f"{part.place('suites')}: suites were {had} when locked, and are {has}"
    for place, text in moved_archives(then.archives, archives_of(part)):
        yield f"{place or part.place('archives')}: {text}"
    locked = {_package_name(text): text for text in then.packages}
    for number, text in enumerate(made.packages):
        before = locked.pop(_package_name(text), None)
        if before != text:
            place = part.place("packages", number)
            yield f"{place}: package '{text}' " + (
                f"is not in {file}" if before is None else f"was '{before}' when locked"
            )
    for text in locked.values():
        place = part.place("packages")
        yield f"{place}: package '{text}' is in {file} and no longer here"


def _moved_requirements(lock: Lock, part: ImagePart, now: Sequence[Requirement]) -> Iterator[str]:
    file, lock_file = part.made.python, _name(part.loaded)
    if (file is None) != (lock.python is None):
        place = part.place("python")
        yield f"{place}: " + (
            f"python '{file}' is not in {lock_file}" if file else f"python is in {lock_file} and no longer here"
        )
        return
    if _by_name(part.made.indexes) != lock.requested.indexes:
        yield f"{part.place('python')}: other projects come from other indexes than when locked"
    if _by_name(part.made.from_source) != lock.requested.from_source:
        yield f"{part.place('python')}: other projects are built from source, or in other stages, than when locked"
    gone = set(lock.requested.requirements) - {one.written for one in now}
    for one in now:
        if one.written in lock.requested.requirements:
            continue
        before = next((text for text in sorted(gone) if project_of(text) == one.name), None)
        gone.discard(before or "")
        yield f"{one.place}: '{one.text}' " + (
            f"is not in {lock_file}" if before is None else f"was '{before.partition(' --hash')[0]}' when locked"
        )
    for text in sorted(gone):
        yield f"{file}: '{text.partition(' --hash')[0]}' is in {lock_file} and no longer here"


def _baseless(lock: Lock, part: ImagePart) -> Iterator[str]:
    """Yield which entries nothing asks for, and what is asked for and has no entry."""
    wanted, requirements, lock_file = wanted_of(part), requirements_of(part), _name(part.loaded)
    for kind, names in (
        ("package", groundless_packages(lock, wanted)),
        ("wheel", groundless_wheels(lock, requirements)),
    ):
        for name in names:
            yield f"{lock_file}: {part.named(f'the {kind} {name!r}')} is there, and nothing asks for it"
    missing = [(one.place, one.text) for one in missing_packages(lock, wanted)]
    missing += [(one.place, one.text) for one in missing_wheels(lock, requirements)]
    for place, text in missing:
        yield f"{place}: '{text}' has no entry in {lock_file}"


def _package_name(text: str) -> str:
    return text.partition("=")[0]


def _name(loaded: Loaded) -> str:
    """Return the lock's name: it lies beside the definition and is named after it."""
    return Path(loaded.file).with_suffix(".lock").name
