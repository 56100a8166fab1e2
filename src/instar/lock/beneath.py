"""What an image has of Debian packages, and of Python, that packages and wheels are to go onto.

It is read from the layers of an image of others (its status of dpkg, its os-release), or known by the lock of another
definition. All of an image of others is data until it was checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Final

from instar.frozen import dataclass
from instar.model import dpkg_status
from instar.model.base import IMAGE, OCI
from instar.model.dpkg_status import Control, WrongStatus
from instar.model.lock import PYTHON, Installed, InstalledPackage, Package
from instar.process import PATH

if TYPE_CHECKING:
    from instar.definition.parts import ImagePart
    from instar.model.image_spec import BuildStage
    from instar.store.listing import ListedFile

_RELEASES: Final = ("etc/os-release", "usr/lib/os-release")
_PYTHONS: Final = r"(?:[A-Za-z0-9_+-][A-Za-z0-9._+-]*/){1,6}bin/python3(?:\.[0-9]{1,3})?|bin/python3(?:\.[0-9]{1,3})?"
WANTED: Final = re.compile(rf"{dpkg_status.STATUS}|{dpkg_status.PARTS}/[^/]+|{'|'.join(_RELEASES)}".encode())
PROGRAMS: Final = re.compile(rf"{_PYTHONS}|(?:usr/)?bin/dpkg".encode())  # which need only be there
_DISTRIBUTIONS: Final = ("debian", "ubuntu")
_SUITE: Final = re.compile(r"[a-z][a-z0-9-]{0,39}\Z")
_OF_DEBIAN: Final = ("usr/bin/", "bin/")  # where Debian's own is
_VERSIONED: Final = re.compile(r"(?:.*/)?(python3\.[0-9]{1,3})\Z")


@dataclass(frozen=True, kw_only=True, slots=True)
class Beneath:
    """``installed`` is what a lock has of it. Of the packages that an image of others has, ``controls`` are their
    fields; ``locked`` are those that locks of definitions put over them, from the lowest up.

    ``unfit`` is why no package can be installed there, though some are.
    """

    installed: Installed
    controls: Mapping[str, Control] = field(default_factory=dict)
    locked: tuple[Package, ...] = ()
    unfit: str = ""


def looks_beneath(made: BuildStage) -> bool:
    """Tell whether a lock of this has to say what its base has installed: where it is an image, and more is to come."""
    is_image = made.base.startswith((OCI, IMAGE))
    return is_image and bool(made.packages or made.archives or made.python or made.strip)


def of_image(seen: Mapping[bytes, ListedFile], env: Mapping[str, str], architecture: str) -> Beneath:
    """Return what an image of others has, by what is ``seen`` in its layers. Raises WrongStatus."""
    release, text, unfit = _release(seen), _status(seen), ""
    if text is None:
        parts = [one.content for path, one in sorted(seen.items()) if path.startswith(dpkg_status.PARTS.encode())]
        text = b"\n\n".join(part for part in parts if part is not None)
        unfit = "it was put together without dpkg, and has none"
    elif b"usr/bin/dpkg" not in seen and b"bin/dpkg" not in seen:
        unfit = "its dpkg was taken out"
    controls = dpkg_status.installed(text, architecture)
    if not controls:
        raise WrongStatus("dpkg's status has no package that is installed")
    installed = Installed(
        release=release,
        packages=dpkg_status.packages_of(controls),
        python=_python(seen, env.get("PATH") or PATH),
    )
    return Beneath(installed=installed, controls=controls, unfit=unfit)


def with_locked(below: Beneath, packages: Sequence[Package]) -> Beneath:
    """Return what is there when ``packages`` of a definition are over it."""
    known = {one.name: one for one in below.installed.packages}
    known |= {
        one.name: InstalledPackage(name=one.name, version=one.version, architecture=one.architecture)
        for one in packages
    }
    installed = Installed(
        release=below.installed.release,
        packages=tuple(known[name] for name in sorted(known)),
        python=below.installed.python,
    )
    return Beneath(installed=installed, controls=below.controls, locked=(*below.locked, *packages), unfit=below.unfit)


def for_part(below: Beneath, part: ImagePart) -> Beneath:
    """Return the same as a part wants it: one that names Debian's Python has its wheels for that."""
    if below.installed.python is None or not any(text.partition("=")[0] == PYTHON for text in part.made.packages):
        return below
    installed = Installed(release=below.installed.release, packages=below.installed.packages)
    return Beneath(installed=installed, controls=below.controls, locked=below.locked, unfit=below.unfit)


def python_version(path: str) -> str:
    """Return "3.12" for "/usr/local/bin/python3.12"."""
    return path.rpartition("/python")[2]


def moved(then: Installed, now: Installed) -> Iterator[str]:
    """Yield what a base has otherwise than when it was locked, a line each."""
    if then.release != now.release:
        yield f"it is {now.release} now, and was {then.release}"
    if then.python != now.python:
        yield f"its Python is {now.python or 'that of Debian'} now, and was {then.python or 'that of Debian'}"
    before, after = then.versions, now.versions
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield f"it has '{name}' {after.get(name, 'no more')} now, and had {before.get(name, 'none')}"


def _status(seen: Mapping[bytes, ListedFile]) -> bytes | None:
    found = seen.get(dpkg_status.STATUS.encode())
    if found is None or found.content == b"":
        if any(path.startswith(f"{dpkg_status.PARTS}/".encode()) for path in seen):
            return None
        raise WrongStatus("it has no status of dpkg, which says what is installed")
    if found.content is None:
        raise WrongStatus(f"its '/{dpkg_status.STATUS}' is no regular file")
    return found.content


def _release(seen: Mapping[bytes, ListedFile]) -> str:
    """Return which release an image says that it is of. Source: os-release(5)."""
    found = next((one.content for path in _RELEASES if (one := seen.get(path.encode())) and one.content), None)
    if found is None:
        raise WrongStatus("it does not say of which distribution it is: there is no os-release in it")
    values = dict[str, str]()
    for line in found.decode("utf-8", "replace").splitlines():
        name, _, value = line.strip().partition("=")
        values[name] = value.strip("\"' ")
    distribution, suite = values.get("ID", ""), values.get("VERSION_CODENAME", "")
    if distribution not in _DISTRIBUTIONS:
        raise WrongStatus(f"it is of {distribution!r:.40}, and only Debian and Ubuntu are known here")
    if not _SUITE.match(suite):
        raise WrongStatus(f"its os-release names no release of {distribution.title()}: {suite!r:.40}")
    return f"{distribution}:{suite}"


def _python(seen: Mapping[bytes, ListedFile], path: str) -> str | None:
    """Return where the Python is that PATH finds first, where it is none of Debian's."""
    for folder in path.split(":"):
        inside = folder.strip("/")
        one = seen.get(f"{inside}/python3".encode())
        if one is None:
            continue
        if f"{inside}/" in _OF_DEBIAN:
            return None
        target = one.link.decode("utf-8", "replace")
        named = _VERSIONED.match(target)
        if named and f"{inside}/{named[1]}".encode() in seen:
            return f"/{inside}/{named[1]}"
    return None
