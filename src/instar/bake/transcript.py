"""All that a command of a bake printed: kept when it fails, with the lines of it that say why.

STATE/steps/failed/2026-11-28T20-50-01-packages.txt: the newest ``_KEPT`` of them, each of bounded size, for root alone.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from instar.frozen import dataclass

LIMIT_BYTES = 64 << 20
_KEPT = 20
_SHOWN = 20
_CAUSE_LINES = 5
_LINE_CHARACTERS = 2000
_NAME = re.compile(r"[^a-z0-9]+")
# of dpkg, that one package is at fault; of everything else, that a line tells of a fault at all
_PACKAGE = re.compile(r"dpkg: error processing (?:package|archive) (\S+)")
_BEGINS = re.compile(r"(?:Setting up|Unpacking|Preparing to unpack|Processing triggers for) ")
_FAULT = re.compile(
    r"\b(?:error|fatal|cannot|can't|not found|denied|no such|undefined|unable|failed|traceback|exception)\b", re.I
)
_NOT_FOUND = re.compile(
    r"(?:[:\s]|^)(?:([a-z0-9+_-]+): (?:command )?not found|env: .([a-z0-9+_-]+).: No such file or directory)$"
)
# Programs that other Debian systems have although no package has to ask for them, and the package of each.
_PROGRAMS: dict[str, str] = {
    **dict.fromkeys(
        ("groupadd", "groupmod", "groupdel", "useradd", "usermod", "userdel", "chpasswd", "passwd"), "passwd"
    ),
    **dict.fromkeys(("adduser", "addgroup", "deluser", "delgroup"), "adduser"),
    **dict.fromkeys(("mount", "umount"), "mount"),
    **dict.fromkeys(("ps", "pgrep", "pkill", "sysctl", "free"), "procps"),
    **dict.fromkeys(("gcc", "cc", "g++", "c++", "make", "dpkg-buildpackage"), "build-essential"),
    **{name: name for name in ("bzip2", "curl", "file", "git", "less", "openssl", "unzip", "wget", "xz", "zip")},
    **{"awk": "mawk", "cpio": "cpio", "gpg": "gpg", "ip": "iproute2", "nano": "nano", "python": "python-is-python3"},
    **{
        "python3": "python3",
        "pip": "python3-pip",
        "npm": "npm",
        "node": "nodejs",
        "xz": "xz-utils",
        "chattr": "e2fsprogs",
    },
}


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptOutput:
    """``lines`` are those of what was printed that say why, at most ``_SHOWN``; ``path`` is where all of it is."""

    path: Path
    lines: tuple[str, ...]


def keep(transcript: Path, folder: Path, step: str) -> KeptOutput:
    """Keep a transcript in ``folder`` and return what matters of it. The oldest there go. Raises OSError."""
    folder.mkdir(mode=0o700, exist_ok=True)
    stamp = time.strftime("%Y-%m-%dT%H-%M-%S", time.gmtime())
    path = folder / f"{stamp}-{_NAME.sub('-', step.lower()).strip('-')[:60]}.txt"
    transcript.rename(path)
    for old in sorted(folder.glob("*.txt"))[:-_KEPT]:
        with contextlib.suppress(FileNotFoundError):
            old.unlink()
    path.chmod(0o600)
    with path.open(encoding="utf-8", errors="replace") as file:
        return KeptOutput(path=path, lines=matter(line.rstrip("\n") for line in _bounded(file)))


def missing_package(lines: Iterable[str]) -> str | None:
    """Return the package whose program a command did not find, None where it was not that, or nobody knows."""
    for line in lines:
        if (found := _NOT_FOUND.search(line)) and (package := _PROGRAMS.get(found[1] or found[2])):
            return package
    return None


def matter(lines: Iterator[str]) -> tuple[str, ...]:
    """Return the lines that say why a command failed.

    Of dpkg: from where it began with the first package that failed, until it says so. Of others: the last lines, and
    before them the first that tells of a fault.
    """
    package: deque[str] = deque(maxlen=_SHOWN - 1)  # since dpkg began with the package that it is at
    last: deque[str] = deque(maxlen=_SHOWN)
    fault: list[str] = []  # the first line that tells of one, and the next
    fault_at = count = 0
    for count, line in enumerate(lines, 1):
        if _PACKAGE.match(line):
            return (*package, line, *_next(lines))[-_SHOWN:]
        if _BEGINS.match(line):
            package.clear()
        package.append(line)
        last.append(line)
        if not fault and _FAULT.search(line):
            fault_at = count
        if fault_at and len(fault) < _CAUSE_LINES:
            fault.append(line)
    if not fault or fault_at > count - _SHOWN:
        return tuple(last)
    return (*fault, "…", *list(last)[len(fault) + 1 - _SHOWN :])


def _next(lines: Iterator[str]) -> Iterator[str]:
    """Yield the line after dpkg's own, which says how the script ended."""
    line = next(lines, "")
    if line.startswith(" "):
        yield line


def _bounded(file: Iterator[str]) -> Iterator[str]:
    for line in file:
        yield line[:_LINE_CHARACTERS]
