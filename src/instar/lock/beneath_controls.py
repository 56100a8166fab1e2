"""The control fields of what a base has: of an image of others by its own status, of a definition by the lists of the
archive, or by the package's file, where the archive has dropped that version and the cache still has it.
"""

from __future__ import annotations

from instar import process
from instar.errors import CommandFailed, ResolveError
from instar.fetch.apt import Apt
from instar.fetch.cache import Cache
from instar.lock.beneath import Beneath
from instar.model.control import fields
from instar.model.dpkg_status import Control
from instar.model.lock import Package

_TIMEOUT_S = 30


def controls_of(below: Beneath, apt: Apt, cache: Cache) -> list[Control]:
    """Return the fields of all that is installed, by name. Raises ResolveError where nobody knows those of one."""
    listed = apt.controls(below.locked)
    found = dict(below.controls)
    for package in below.locked:
        control = listed.get(package.name) or _of_file(package, cache)
        if control is None:
            raise ResolveError(
                f"cannot lock over '{package.name}' {package.version}, which the base has: the archive has dropped that"
                " version, and its file is not here",
                hint="bake the base here, which keeps its packages, and lock as root; or lock the base anew:"
                " instar lock --update -f FILE",
            )
        found[package.name] = control
    return [found[name] for name in sorted(found)]


def _of_file(package: Package, cache: Cache) -> Control | None:
    path = cache.find(package.sha256)
    if path is None:
        return None
    try:
        told = process.run(["dpkg-deb", "-f", str(cache.verify(package.sha256))], timeout_s=_TIMEOUT_S)
    except CommandFailed as error:
        raise ResolveError(
            f"cannot read what package '{package.name}' {package.version} needs: {error.message}"
        ) from error
    return fields(told.stdout)
