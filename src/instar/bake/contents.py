"""What packages and wheels say of themselves, held against the lock that names them, before anything of them is used.

A lock's hashes say which bytes. These checks say that the bytes are what the entry calls them, and that what was asked
for needs them. They hold for locks of every version: what a lock does not say itself is read from the files.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from instar.bake.debian.deb import Deb
from instar.bake.wheels.distribution import Distribution, read_distribution, same_version
from instar.errors import BakeError
from instar.fetch.cache import Cache
from instar.fetch.requirements import project_of
from instar.fetch.target import WheelTarget, best_wheel
from instar.model.control import fields, needs
from instar.model.lock import ASKED, PYTHON, Lock, Package, Wheel, Why, parent
from instar.model.reasons import explain, package_roots
from instar.store import zipped
from instar.store.members import Malformed

_HINT = "take the lock from version control, or make it anew: instar lock --update"


def require_packages(packages: Sequence[Package], lock: Lock, cache: Cache) -> None:
    """Return when ``packages``, all those of one step, are what the lock says. Raises BakeError, FetchError."""
    controls = {}
    for package in packages:
        path = cache.verify(package.sha256)
        controls[package.name] = fields(Deb(path, package.name).control()["control"])
        if path.stat().st_size != package.size_bytes:
            raise _wrong(
                "package", package.name, f"it has {path.stat().st_size:,} bytes, locked are {package.size_bytes:,}"
            )
        _require_identity(package, controls[package.name])
    named = (text for archive in lock.requested.archives for text in archive.packages)
    asked = {text.partition("=")[0] for text in (*lock.requested.packages, *named)}
    if lock.python is not None:
        asked.add(PYTHON)
    roots = package_roots(controls, asked, is_base=lock.installed is None)
    _require_grounds("package", packages, roots, needs(controls))


def require_wheels(lock: Lock, cache: Cache) -> None:
    """Return when the wheels are what the lock says. Raises BakeError, FetchError."""
    found = {}
    for wheel in lock.wheels:
        path = cache.verify(wheel.sha256)
        try:
            with zipped.opened(path) as archive:
                found[wheel.name] = read_distribution(archive)
        except (KeyError, Malformed) as error:
            raise BakeError(
                f"cannot use the wheel '{wheel.filename}': it is malformed: {str(error).strip(chr(34))}",
                hint="choose another version in the requirements",
            ) from error
        _require_wheel(wheel, found[wheel.name], lock)
    asked = dict.fromkeys((project_of(text) for text in lock.requested.requirements), ASKED)
    _require_grounds("wheel", lock.wheels, asked, {name: one.requires for name, one in found.items()})


def _require_identity(package: Package, control: Mapping[str, str]) -> None:
    expected = (package.name, package.version, package.architecture)
    inside = tuple(control.get(name, "") for name in ("Package", "Version", "Architecture"))
    if inside != expected:
        raise _wrong("package", package.name, f"inside is '{' '.join(inside)}', locked is '{' '.join(expected)}'")


def _require_wheel(wheel: Wheel, inside: Distribution, lock: Lock) -> None:
    if inside.name != wheel.name or not same_version(inside.version, wheel.version):
        cause = f"inside is '{inside.name} {inside.version}', locked is '{wheel.name} {wheel.version}'"
        raise _wrong("wheel", wheel.name, cause)
    if not inside.fits(wheel.filename):
        raise _wrong("wheel", wheel.name, f"it was not made as '{wheel.filename}'")
    target = _target(lock)
    if best_wheel([wheel.filename], target.ranks()) is None:
        raise _wrong("wheel", wheel.name, f"'{wheel.filename}' is not for Python {target.python} on {target.machine}")


def _target(lock: Lock) -> WheelTarget:
    """An image without Debian's C library runs no wheel that needs one."""
    packages = lock.all_packages
    if any(package.name == "libc6" for package in packages):
        return WheelTarget.of(lock.python or "", lock.architecture, packages)
    return WheelTarget(python=lock.python or "", architecture=lock.architecture, glibc_minor=0)


def _require_grounds(
    kind: str, entries: Sequence[Package | Wheel], roots: Mapping[str, Why], needed: Mapping[str, Collection[str]]
) -> None:
    """What the lock gives as a reason has to be one; what gives none has to be needed by something."""
    found = explain(roots, needed)
    for entry in entries:
        if entry.name not in found:
            raise _wrong(kind, entry.name, "nothing that is asked for needs it")
        above = parent(entry.why) if entry.why is not None else None
        is_true = entry.name in needed.get(above, ()) if above is not None else roots.get(entry.name) == entry.why
        if entry.why is not None and not is_true:
            raise _wrong(kind, entry.name, f"it is locked as '{entry.why}', which it is not")


def _wrong(kind: str, name: str, cause: str) -> BakeError:
    return BakeError(f"cannot use the {kind} '{name}' of the lock: {cause}", hint=_HINT)
