"""Does a lock still fit its definition? Comparisons only: no network, and milliseconds."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from instar.definition.author_files import has_author_file
from instar.errors import DefinitionError, LockStale, Problem, ResolveError
from instar.fetch.requirements import Requirement, normal_name, read_requirements
from instar.lock.artifacts import moved_artifacts
from instar.lock.ground import groundless_packages, groundless_wheels, missing_packages, missing_wheels
from instar.lock.wanted import wanted_of
from instar.model.lock import Lock, Requested

if TYPE_CHECKING:
    from instar.definition import Loaded

_SHOWN = 20
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # the kernel's name → Debian's and OCI's


def require_fit(lock: Lock, loaded: Loaded) -> None:
    """Return when ``lock`` was made for just what the definition asks for.

    Raises:
        LockStale: it wasn't; says which lines moved. Or it is for another architecture.
        DefinitionError: the requirements file is missing or malformed.
    """
    if lock.architecture != host_architecture():
        raise LockStale(
            f"cannot use '{_name(loaded)}': it was made for {lock.architecture},"
            f" and this machine is {host_architecture()}",
            hint="instar lock makes one for this machine",
        )
    requirements = requirements_of(loaded)
    moved = [*_moved_packages(lock, loaded), *_moved_requirements(lock, loaded, requirements)]
    moved += moved_artifacts(lock, loaded, _name(loaded))
    moved = moved or [*_baseless(lock, loaded, requirements)]
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


def requested(loaded: Loaded, requirements: Sequence[Requirement]) -> Requested:
    """Return what a lock of this definition is made for."""
    image = loaded.definition.image
    lines = tuple(one.written for one in requirements)
    return Requested(base=image.base, packages=image.packages, requirements=lines, suites=tuple(sorted(image.suites)))


def requirements_of(loaded: Loaded) -> tuple[Requirement, ...]:
    """Return the definition's Python requirements; none when it has no ``python``. Raises DefinitionError."""
    name = loaded.definition.image.python
    if name is None:
        return ()
    if not has_author_file(loaded.folder, name):
        raise _missing(loaded, name)
    return read_requirements(loaded.folder, name)


def _missing(loaded: Loaded, name: str) -> DefinitionError:
    line, column = loaded.places.find("image", "python")
    message = f"cannot find '{name}': there is no such file beside the definition"
    return DefinitionError([Problem(file=loaded.file, line=line, column=column, message=message)])


def _moved_packages(lock: Lock, loaded: Loaded) -> Iterator[str]:
    image, then = loaded.definition.image, lock.requested
    if image.base != then.base:
        yield f"{loaded.places.place_text('image', 'base')}: base '{image.base}' was '{then.base}' when locked"
    if sorted(image.suites) != sorted(then.suites):
        had, has = ", ".join(then.suites) or "none", ", ".join(image.suites) or "none"
        yield f"{loaded.places.place_text('image', 'suites')}: suites were {had} when locked, and are {has}"
    locked = {_package_name(text): text for text in then.packages}
    for number, text in enumerate(image.packages):
        before = locked.pop(_package_name(text), None)
        if before != text:
            place = loaded.places.place_text("image", "packages", number)
            yield f"{place}: package '{text}' " + (
                f"is not in {_name(loaded)}" if before is None else f"was '{before}' when locked"
            )
    for text in locked.values():
        place = loaded.places.place_text("image", "packages")
        yield f"{place}: package '{text}' is in {_name(loaded)} and no longer here"


def _moved_requirements(lock: Lock, loaded: Loaded, now: Sequence[Requirement]) -> Iterator[str]:
    file = loaded.definition.image.python
    if (file is None) != (lock.python is None):
        place = loaded.places.place_text("image", "python")
        yield f"{place}: " + (
            f"python '{file}' is not in {_name(loaded)}" if file else f"python is in {_name(loaded)} and no longer here"
        )
        return
    gone = set(lock.requested.requirements) - {one.written for one in now}
    for one in now:
        if one.written in lock.requested.requirements:
            continue
        before = next((text for text in sorted(gone) if normal_name(text) == one.name), None)
        gone.discard(before or "")
        yield f"{one.place}: '{one.text}' " + (
            f"is not in {_name(loaded)}" if before is None else f"was '{before.partition(' --hash')[0]}' when locked"
        )
    for text in sorted(gone):
        yield f"{file}: '{text.partition(' --hash')[0]}' is in {_name(loaded)} and no longer here"


def _baseless(lock: Lock, loaded: Loaded, requirements: Sequence[Requirement]) -> Iterator[str]:
    """Yield which entries nothing asks for, and what is asked for and has no entry."""
    wanted = wanted_of(loaded)
    for kind, names in (
        ("package", groundless_packages(lock, wanted)),
        ("wheel", groundless_wheels(lock, requirements)),
    ):
        for name in names:
            yield f"{_name(loaded)}: the {kind} '{name}' is there, and nothing asks for it"
    missing = [(one.place, one.text) for one in missing_packages(lock, wanted)]
    missing += [(one.place, one.text) for one in missing_wheels(lock, requirements)]
    for place, text in missing:
        yield f"{place}: '{text}' has no entry in {_name(loaded)}"


def _package_name(text: str) -> str:
    return text.partition("=")[0]


def _name(loaded: Loaded) -> str:
    """Return the lock's name: it lies beside the definition and is named after it."""
    return Path(loaded.file).with_suffix(".lock").name
