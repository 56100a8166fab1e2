"""Archives of others: which of their packages a lock may take.

An archive that a definition names is read by apt in a tree of its own, which trusts the archive's key and no other.
What the solver then sees of it is no more than this: the packages that are named for it, and those of which no other
place has any, none of them essential. So nobody who has such an archive can put a newer C library in Debian's place.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from instar.errors import FetchError
from instar.fetch.sources import ArchiveSuite, Sources, suite_sources
from instar.frozen import dataclass
from instar.model.control import fields
from instar.model.digest import Digest
from instar.model.image_sources import Archive as Wish
from instar.model.lock import Package, Suite

if TYPE_CHECKING:
    from instar.fetch.apt import Apt

_TAKEN: Final = (
    *("Package", "Version", "Architecture", "Multi-Arch", "Installed-Size", "Pre-Depends", "Depends", "Conflicts"),
    *("Breaks", "Replaces", "Provides"),
)
_FORMS: Final = {
    "Package": re.compile(r"[a-z0-9][a-z0-9+.-]*\Z"),
    "Version": re.compile(r"[0-9A-Za-z][0-9A-Za-z.+:~-]*\Z"),
    "SHA256": re.compile(r"[0-9a-f]{64}\Z"),
    "Size": re.compile(r"[0-9]{1,15}\Z"),
    "Filename": re.compile(r"(?![./])(?!.*(?:/\.|//))[A-Za-z0-9.+:~_/%,=@-]+\.deb\Z"),
}
_NAME: Final = re.compile(rb"(?m)^Package: *(\S+)")
_ROOT: Final = "/"  # the suite that is a path, of which apt says nothing
_LABEL_CHARACTERS: Final = 200
_DAY_S: Final = 86_400


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """What one archive gives. ``packages`` are known by name, version and SHA-256; ``named`` come from it alone."""

    name: str
    named: frozenset[str]
    suites: tuple[Suite, ...]
    packages: Mapping[tuple[str, str, str], Package]
    text: str

    @property
    def label(self) -> str:
        """What apt's pins know it by."""
        return f"instar-archive-{self.name}"

    def write(self, folder: Path) -> None:
        """Write it as an archive that apt reads."""
        folder.mkdir(parents=True, exist_ok=True)
        data = self.text.encode("utf-8", "surrogateescape")
        (folder / "Packages").write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        (folder / "Release").write_text(f"Label: {self.label}\nSHA256:\n {digest} {len(data)} Packages\n")


def archive_sources(name: str, wish: Wish, key: bytes) -> Sources:
    """Return where an archive is: as the definition says, or as this machine's sources do where it says nothing.

    ``key``: what is in its file. Raises FetchError where the machine has no such suite.
    """
    if not wish.uris:
        return suite_sources(wish.suites)
    lines = {
        "Types": "deb",
        "URIs": " ".join(wish.uris),
        "Suites": " ".join(wish.suites),
        "Components": " ".join(components(wish)),
        "Check-Valid-Until": "no" if wish.as_of else "",
    }
    return Sources(
        archives=tuple(ArchiveSuite(uri=uri, suite=suite) for uri in wish.uris for suite in wish.suites),
        lines="",
        stanzas="".join(f"{field}: {value}\n" for field, value in lines.items() if value),
        files=(Path(f"archives.{name}"),),
        key=key,
    )


def components(wish: Wish) -> tuple[str, ...]:
    """Return the components that are read: those that are asked for, or the usual one. A path has none."""
    is_path = wish.suites[0].endswith("/")
    return () if is_path or not wish.uris else wish.components or ("main",)


def read_archive(name: str, wish: Wish, apt: Apt, known: Collection[str], architecture: str) -> Given:
    """Return what an archive gives, whose lists ``apt`` has read; ``known`` are the packages that the base has.

    Raises FetchError: its Release is not of the day that is asked for, or its entry of a package that is named is none
    that could be locked.
    """
    _require_day(name, wish, apt)
    named = frozenset(text.partition("=")[0] for text in wish.packages)
    packages: dict[tuple[str, str, str], Package] = {}
    text = []
    for index in apt.indexes:
        for package, found in _paragraphs(index.file, lambda package: package in named or package not in known):
            if found.get("Architecture") not in (architecture, "all"):
                continue
            path = _path(index.suite, found.get("Filename", ""))
            wrong = _wrong({**found, "Filename": path})
            if wrong and package in named:
                raise FetchError(f"cannot use the archive '{name}': its entry of '{package}' {wrong}")
            one = None if wrong else _package(name, index.suite or _ROOT, index.label, path, found)
            if one is not None and packages.setdefault((one.name, one.version, one.sha256.hex), one) is one:
                text.append(_entry(one, found))
    suites = tuple(Suite(label=one.label, suite=one.suite or _ROOT, date=one.date, archive=name) for one in apt.suites)
    return Given(name=name, named=named, suites=suites, packages=packages, text="\n".join(text))


def label_of(text: str) -> str:
    """Return what an archive calls itself as a lock can have it: nobody says that it is fit to be read."""
    return "".join(letter for letter in text if letter.isprintable())[:_LABEL_CHARACTERS]


def _require_day(name: str, wish: Wish, apt: Apt) -> None:
    from datetime import UTC, datetime

    if wish.as_of is None:
        return
    begin = int(datetime.fromisoformat(wish.as_of).replace(tzinfo=UTC).timestamp())
    for index in apt.indexes:
        date, until = index.release["Date"], index.release.get("Valid-Until")
        if date >= begin + _DAY_S or (until is not None and until < begin):
            when = datetime.fromtimestamp(date, UTC).date()
            expired = f", valid until {datetime.fromtimestamp(until, UTC).date()}" if until is not None else ""
            raise FetchError(
                f"cannot use the archive '{name}': '{index.suite}' is of {when}{expired}, not of {wish.as_of}",
                hint=f"write its day as archives.{name}.as_of, or the address of a snapshot of that day",
            )


def _paragraphs(file: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the names and fields of the ``wanted`` packages; of the others no more is read than the name."""
    for paragraph in file.read_bytes().split(b"\n\n"):
        match = _NAME.search(paragraph)
        name = match[1].decode("utf-8", "replace") if match else ""
        if name and wanted(name):
            yield name, {**fields(paragraph), "Package": name}


def _path(suite: str, filename: str) -> str:
    """Return where a file is below the archive's address: of a suite that is a path, names begin there."""
    folder = suite if suite.endswith("/") else ""
    return "/".join(part for part in f"{folder}/{filename}".split("/") if part not in ("", "."))


def _wrong(found: Mapping[str, str]) -> str | None:
    missing = next((field for field in _FORMS if not found.get(field)), None)
    if missing:
        return f"has no {missing}"
    field = next((field for field, form in _FORMS.items() if not form.match(found[field])), None)
    return f"has a {field} that is none: {found[field][:100]!r}" if field else None


def _package(name: str, suite: str, label: str, path: str, found: Mapping[str, str]) -> Package:
    return Package(
        name=found["Package"],
        version=found["Version"],
        architecture=found["Architecture"],
        size_bytes=int(found["Size"]),
        sha256=Digest.from_hex(found["SHA256"]),
        label=label,
        suite=suite,
        path=path,
        step="packages",
        archive=name,
    )


def _entry(package: Package, found: Mapping[str, str]) -> str:
    lines = {field: found[field] for field in _TAKEN if field in found}
    lines |= {"Filename": package.path, "Size": str(package.size_bytes), "SHA256": package.sha256.hex}
    return "".join(f"{field}: {value}\n" for field, value in lines.items())
