"""What wheels need and do not bring: shared libraries, and the world's time zones. Said when they are installed.

A wheel may count on libraries that are on every usual system (PEP 600), and images have nothing that nobody asked for:
numpy needs libstdc++. What is missing may be needed by a part that is never used, so that it is a warning and no error.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from instar.bake import elf
from instar.bake.root import Root, read_regular

_FOLDERS = ("/usr/lib/{triplet}", "/usr/lib", "/usr/lib64", "/usr/local/lib")
_TRIPLETS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
_LIBRARY = re.compile(r"\.so(?:\.[0-9]+)*\Z")
_ZONES = re.compile(rb"(?m)^[ \t]*(?:from zoneinfo import|import zoneinfo\b)")
_ZONES_PLACE = "/usr/share/zoneinfo/UTC"
_ZONES_WHEEL = "tzdata"
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_LIMIT_BYTES = 4 << 20  # of a source file that is looked through
_SHOWN = 4

# Debian names the package of a library after the library (Policy, 8.1). These are named otherwise.
_PACKAGES = {
    "libz.so.1": "zlib1g",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgobject-2.0.so.0": "libglib2.0-0",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libgio-2.0.so.0": "libglib2.0-0",
    "libcrypto.so.3": "libssl3",
    "libgcc_s.so.1": "libgcc-s1",
    "libbz2.so.1.0": "libbz2-1.0",
    "libodbc.so.2": "libodbc2",
}
_OF_C = re.compile(r"(?:ld-linux|libc\.|libm\.|libdl\.|libpthread\.|librt\.|libutil\.|libresolv\.|linux-vdso)")


def missing(root: Root, top: Path, architecture: str) -> Iterator[str]:
    """Yield what the wheels below ``top``, a folder in ``root``, need and the image has not: lines for people."""
    files = list(_files(top))
    brought = {path.name for path, _ in files}
    lacking: dict[str, list[str]] = {}
    for path, wheel in files:
        for library in _needed(path):
            if library not in brought and not _OF_C.match(library) and not _has(root, library, architecture):
                lacking.setdefault(library, []).append(wheel)
    for library, wheels in sorted(lacking.items()):
        yield f"{_list(wheels)} needs {library}, which the image lacks: add {package_of(library)} to image.packages"
    if not root.exists(_ZONES_PLACE) and not (top / _ZONES_WHEEL).is_dir():
        readers = list(_zone_readers(top))
        if readers:
            yield f"{_list(readers)} may ask for time zones, which the image lacks: add tzdata to image.packages"


def package_of(library: str) -> str:
    """Return the package that Debian's naming gives for a library: libpq.so.5 → libpq5, libX11.so.6 → libx11-6."""
    if library in _PACKAGES:
        return _PACKAGES[library]
    name, _, version = library.partition(".so")
    name, version = name.lower().replace("_", "-"), version.removeprefix(".")
    if not version:
        name, _, version = name.rpartition("-") if "-" in name else (name, "", "")
    return f"{name}-{version}" if name[-1:].isdigit() and version else f"{name}{version}"


def _files(top: Path) -> Iterator[tuple[Path, str]]:
    """Yield every library below ``top``, and the folder of the wheel that it is in."""
    for folder, _, names in os.walk(top):
        for name in names:
            if _LIBRARY.search(name):
                path = Path(folder, name)
                yield path, path.relative_to(top).parts[0].partition(".")[0]


def _needed(path: Path) -> tuple[str, ...]:
    if not stat.S_ISREG(path.lstat().st_mode):
        return ()
    descriptor = os.open(path, _READ)
    try:
        return elf.needed(descriptor)
    finally:
        os.close(descriptor)


def _has(root: Root, library: str, architecture: str) -> bool:
    if "/" in library or library in ("", ".", ".."):
        return False
    folders = (folder.format(triplet=_TRIPLETS.get(architecture, architecture)) for folder in _FOLDERS)
    return any(root.exists(f"{folder}/{library}") for folder in folders)


def _zone_readers(top: Path) -> Iterator[str]:
    for wheel in sorted(
        entry.name for entry in os.scandir(top) if entry.is_dir(follow_symlinks=False) and "." not in entry.name
    ):
        if any(_reads_zones(Path(folder, name)) for folder, _, names in os.walk(top / wheel) for name in names):
            yield wheel


def _reads_zones(path: Path) -> bool:
    if path.suffix != ".py" or not stat.S_ISREG(path.lstat().st_mode):
        return False
    descriptor = os.open(path, _READ)
    try:
        return _ZONES.search(read_regular(descriptor, _LIMIT_BYTES)) is not None
    finally:
        os.close(descriptor)


def _list(names: Sequence[str]) -> str:
    known = sorted(set(names))
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return ", ".join(known[:_SHOWN]) + more
