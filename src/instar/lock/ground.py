"""Which entries of a lock have a ground, by what the lock itself says: no file is looked into.

Whether what it says is true is for the bake to see, which has the files.
"""

from __future__ import annotations

from collections.abc import Sequence

from instar.fetch.requirements import Requirement
from instar.lock.wanted import WantedPackage
from instar.model.lock import ASKED, ESSENTIAL, PYTHON, Lock
from instar.model.reasons import groundless


def groundless_packages(lock: Lock, wanted: Sequence[WantedPackage]) -> tuple[str, ...]:
    """Return the packages that nothing asks for; ``wanted`` is what the definition does."""
    roots = {
        ASKED: {one.name for one in wanted},
        ESSENTIAL: {package.name for package in lock.packages if package.step == "base"},
    }
    return groundless({package.name: package.why for package in lock.packages}, roots)


def groundless_wheels(lock: Lock, requirements: Sequence[Requirement]) -> tuple[str, ...]:
    """Return the wheels that nothing asks for."""
    roots = {ASKED: {one.name for one in requirements}}
    return groundless({wheel.name: wheel.why for wheel in lock.wheels}, roots)


def missing_packages(lock: Lock, wanted: Sequence[WantedPackage]) -> tuple[WantedPackage, ...]:
    """Return what is asked for and has no entry."""
    names = {package.name for package in lock.all_packages}
    if lock.installed is not None and lock.installed.python is not None:
        names.add(PYTHON)
    return tuple(one for one in wanted if one.name not in names)


def missing_wheels(lock: Lock, requirements: Sequence[Requirement]) -> tuple[Requirement, ...]:
    """Return what is asked for and has no entry. One with a marker may be for another platform, and have none."""
    names = {wheel.name for wheel in lock.wheels}
    return tuple(one for one in requirements if one.name not in names and ";" not in one.text)
