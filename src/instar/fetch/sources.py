"""Where this machine gets Debian packages from: its apt sources, narrowed to one release.

Both forms that apt reads are read here (one line an entry, and stanzas), and written back in the same words with
other suites left out, so that every option of an entry (keyring, mirror, architecture) keeps its meaning.

Source: sources.list(5).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from instar.errors import FetchError
from instar.frozen import dataclass

VARIABLE = "INSTAR_APT_SOURCES"
_LINE = re.compile(r"deb(?:\s+(\[[^\]]*\]))?\s+(\S+)\s+(\S+)((?:\s+[^\s#]+)*)\s*(?:#.*)?\Z")
_FIELD = re.compile(r"([A-Za-z][A-Za-z-]*):[ \t]*(.*)")


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchiveSuite:
    """One suite at one address."""

    uri: str
    suite: str

    def url(self, path: str) -> str:
        return f"{self.uri.rstrip('/')}/{path}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """The entries of a release. ``lines`` and ``stanzas`` are texts for apt, ``files`` where they came from.

    ``key``: whose signature they have, of an archive that a definition names; empty, the keys are this machine's.
    """

    archives: tuple[ArchiveSuite, ...]
    lines: str
    stanzas: str
    files: tuple[Path, ...]
    key: bytes = b""

    def of_suite(self, suite: str) -> tuple[ArchiveSuite, ...]:
        return tuple(archive for archive in self.archives if archive.suite == suite)


def suites_of(release: str) -> tuple[str, ...]:
    """Return the suites that make up a release: itself, its updates, its security updates."""
    return release, f"{release}-updates", f"{release}-security"


def read_sources(
    release: str, environ: Mapping[str, str] = os.environ, root: Path = Path("/"), *, more: Sequence[str] = ()
) -> Sources:
    """Return this machine's sources of ``release``, and of the suites ``more``.

    ``$INSTAR_APT_SOURCES`` names one file to use instead of apt's. Raises FetchError when a file cannot be read, or
    none has the release or one of the suites.
    """
    suites = (*suites_of(release), *more)
    found = _selected(_files(environ, root), lambda suite: suite in suites)
    for suite in (release, *more):
        _require(found, suite)
    return found


def other_sources(
    release: str, environ: Mapping[str, str] = os.environ, root: Path = Path("/"), *, more: Sequence[str] = ()
) -> Sources | None:
    """Return this machine's sources of everything else, None when there is nothing else. Raises FetchError."""
    suites = (*suites_of(release), *more)
    found = _selected(_files(environ, root), lambda suite: suite not in suites and not suite.endswith("/"))
    return found if found.archives else None


def suite_sources(suites: Sequence[str], environ: Mapping[str, str] = os.environ, root: Path = Path("/")) -> Sources:
    """Return this machine's sources of ``suites``. Raises FetchError when a file cannot be read, or one has none."""
    found = _selected(_files(environ, root), lambda suite: suite in suites)
    for suite in suites:
        _require(found, suite)
    return found


def _require(found: Sources, suite: str) -> None:
    if not found.of_suite(suite):
        raise FetchError(
            f"cannot find '{suite}': none of this machine's apt sources has it"
            f" ({', '.join(str(file) for file in found.files) or 'there are none'})",
            hint=f"write an apt source that names the suite {suite!r} into a file, and its path into ${VARIABLE}",
        )


def _selected(files: tuple[Path, ...], wanted: Callable[[str], bool]) -> Sources:
    lines, stanzas, archives = list[str](), list[str](), list[ArchiveSuite]()
    for file in files:
        text = _read(file)
        in_stanzas = _has_stanzas(file, text)
        for entry, found in (_select_stanzas if in_stanzas else _select_lines)(text, wanted):
            (stanzas if in_stanzas else lines).append(entry)
            archives.extend(found)
    unique = tuple(dict.fromkeys(archives))
    return Sources(archives=unique, lines="".join(lines), stanzas="\n".join(stanzas), files=files)


def _files(environ: Mapping[str, str], root: Path) -> tuple[Path, ...]:
    named = environ.get(VARIABLE)
    if named:
        return (Path(named),)
    etc = root / "etc/apt"
    parts = etc / "sources.list.d"
    found = sorted((*parts.glob("*.list"), *parts.glob("*.sources"))) if parts.is_dir() else []
    main = etc / "sources.list"
    return (*((main,) if main.is_file() else ()), *found)


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise FetchError(f"cannot read apt's sources '{file}': {cause}") from error


def _has_stanzas(file: Path, text: str) -> bool:
    if file.suffix in (".list", ".sources"):
        return file.suffix == ".sources"
    return re.search(r"(?mi)^Types:", text) is not None


def _select_lines(text: str, wanted: Callable[[str], bool]) -> Iterator[tuple[str, list[ArchiveSuite]]]:
    for line in text.splitlines():
        match = _LINE.match(line.strip())
        if match and wanted(match[3]):
            yield line.strip() + "\n", [ArchiveSuite(uri=match[2], suite=match[3])]


def _select_stanzas(text: str, wanted: Callable[[str], bool]) -> Iterator[tuple[str, list[ArchiveSuite]]]:
    for stanza in _stanzas(text):
        fields = _fields(stanza)
        if fields.get("enabled", "yes").lower() in ("no", "false", "0", "off", "without", "disable"):
            continue
        chosen = [suite for suite in fields.get("suites", "").split() if wanted(suite)]
        if "deb" in fields.get("types", "").split() and chosen:
            archives = [
                ArchiveSuite(uri=uri, suite=suite) for uri in fields.get("uris", "").split() for suite in chosen
            ]
            yield _narrow(stanza, {"Types": "deb", "Suites": " ".join(chosen)}), archives


def _stanzas(text: str) -> Iterator[str]:
    """Yield what stands between lines that have nothing but white space in them."""
    lines = list[str]()
    for line in [*text.split("\n"), ""]:
        if line.strip(" \t"):
            lines.append(line)
        elif lines:
            yield "\n".join(lines)
            lines = []


def _fields(stanza: str) -> dict[str, str]:
    """Return the fields of a stanza, names in lower case, continued lines joined by spaces."""
    fields: dict[str, list[str]] = {}
    name = ""
    for line in stanza.splitlines():
        match = _FIELD.match(line)
        if match:
            name = match[1].lower()
            fields[name] = [match[2].strip()]
        elif name and line[:1] in (" ", "\t"):
            fields[name].append(line.strip())
    return {name: " ".join(parts) for name, parts in fields.items()}


def _narrow(stanza: str, instead: Mapping[str, str]) -> str:
    """Return the stanza with the fields of ``instead`` replaced, every other line as it was."""
    kept, dropping = [], False
    for line in stanza.splitlines():
        match = _FIELD.match(line)
        if match:
            dropping = match[1].lower() in {name.lower() for name in instead}
        if line.strip() and not dropping and not line.startswith("#"):
            kept.append(line)
    return "".join(f"{line}\n" for line in (*(f"{name}: {value}" for name, value in instead.items()), *kept))
