"""What a wheel says of itself: which project and version it is, what it runs on, and which others it needs.

A wheel may carry others within its packages, with metadata of their own; only what is at its top is about itself.

Source: PyPA specifications, "Binary distribution format", "Core metadata".
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence

from instar.fetch.requirements import normal_name
from instar.frozen import dataclass
from instar.store import zipped
from instar.store.members import Malformed

Tag = tuple[frozenset[str], frozenset[str], frozenset[str]]
"""Pythons, ABIs and platforms, any of which goes with any of the others."""

_LIMIT_BYTES = 16 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Distribution:
    """``requires`` are names in their normal form, also of what only an extra or another platform needs."""

    name: str
    version: str
    tags: tuple[Tag, ...]
    requires: frozenset[str]

    def fits(self, filename: str) -> bool:
        """Tell whether a wheel with this in it may be called ``filename``: the two have a tag in common."""
        called = _tag(filename.removesuffix(".whl"))
        return any(all(one & other for one, other in zip(called, tag, strict=True)) for tag in self.tags)


def info_folder(names: Sequence[str]) -> str:
    """Return the folder of the metadata among the members of a wheel. Raises Malformed."""
    found = {above for above, _, rest in (name.partition("/") for name in names) if rest == "WHEEL"}
    found = {folder for folder in found if folder.endswith(".dist-info")}
    if len(found) != 1:
        raise Malformed("it has metadata of several packages" if found else "it has no metadata")
    return found.pop()


def read_distribution(archive: zipfile.ZipFile) -> Distribution:
    """Raises Malformed, KeyError for a file that is missing."""
    folder = info_folder(archive.namelist())
    metadata = list(_headers(_text(archive, f"{folder}/METADATA")))
    wheel = list(_headers(_text(archive, f"{folder}/WHEEL")))
    if _first(wheel, "wheel-version").partition(".")[0] not in ("", "1"):
        raise Malformed(f"it is a wheel of version {_first(wheel, 'wheel-version')}, and only 1 is read")
    project, _, version = folder.removesuffix(".dist-info").rpartition("-")
    found = Distribution(
        name=normal_name(_first(metadata, "name")),
        version=_first(metadata, "version"),
        tags=tuple(_tag(value) for name, value in wheel if name == "tag"),
        requires=frozenset(normal_name(value) for name, value in metadata if name == "requires-dist"),
    )
    if normal_name(project) != found.name or not same_version(version.replace("_", "-"), found.version):
        raise Malformed(f"'{folder}' is the metadata of '{found.name}' {found.version}")
    return found


def same_version(one: str, other: str) -> bool:
    """Tell whether two texts mean the same version. Source: PEP 440."""
    from packaging.version import InvalidVersion, Version

    try:
        return one == other or Version(one) == Version(other)
    except InvalidVersion:
        return False


def _text(archive: zipfile.ZipFile, name: str) -> str:
    return zipped.content(archive, archive.getinfo(name), limit_bytes=_LIMIT_BYTES).decode("utf-8", "replace")


def _headers(text: str) -> Iterator[tuple[str, str]]:
    """Yield the headers of a file in the form of mail, names in lower case; what continues one is left out."""
    for line in text.split("\n"):
        if line in ("", "\r"):  # one of spaces goes on with what is above
            return
        name, colon, value = line.partition(":")
        if colon and not line.startswith((" ", "\t")):
            yield name.strip().lower(), value.strip()


def _first(headers: Sequence[tuple[str, str]], name: str) -> str:
    return next((value for found, value in headers if found == name), "")


def _tag(text: str) -> Tag:
    """Split a tag, or the end of a wheel's name, into what it fits: py2.py3-none-any. Source: PEP 425."""
    python, abi, platform = (["", "", *text.lower().rsplit("-", 3)])[-3:]
    return frozenset(python.split(".")), frozenset(abi.split(".")), frozenset(platform.split("."))
