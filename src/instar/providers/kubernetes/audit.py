"""Who looked into a pod, by the API server's audit log: ``exec`` leaves nothing in any object.

A line is an event of ``audit.k8s.io``, as the API server writes them to the file of its ``--audit-log-path``. Only what
is new in the file since the last look is read; a file that was begun anew is read from its beginning.
"""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path
from typing import Final

from instar.errors import ProviderError
from instar.frozen import dataclass
from instar.model.printable import printable

_INTO: Final = ("exec", "attach", "portforward", "ephemeralcontainers")
_MARKS: Final = tuple(f'"subresource":"{one}"'.encode() for one in _INTO)
_MOST: Final = 10_000  # lookers are remembered: the newest
_LETTERS: Final = 200
_Pod = tuple[str, str]  # its namespace and name


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """Somebody's, into a pod, that the API server let be."""

    how: str
    who: str
    by: str  # the program
    at: str


class _Log:
    """What is known of one log. ``file``: its device and number; ``offset``: up to where it was read."""

    def __init__(self) -> None:
        self.file = (0, 0)
        self.offset = 0
        self.looks: dict[_Pod, dict[str, Look]] = {}
        self.guard = threading.Lock()


_logs: dict[Path, _Log] = {}
_guard = threading.Lock()


def looks_into(log: Path, namespace: str, pod: str) -> tuple[Look, ...]:
    """Return who looked into a pod, the first first. Raises ProviderError where the log can't be read."""
    with _guard:
        read = _logs.setdefault(log, _Log())
    with read.guard:
        try:
            _go_on(log, read)
        except OSError as error:
            raise ProviderError(
                f"cannot read the audit log '{log}': {error.strerror}",
                hint="'kubernetes.audit_log' of the machine's file names it: leave it away where this machine has none",
            ) from error
        return tuple(read.looks.get((namespace, pod), {}).values())


def _go_on(log: Path, read: _Log) -> None:
    with open(os.open(log, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123 - a descriptor
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(0, "it is no file")
        if (found.st_dev, found.st_ino) != read.file or found.st_size < read.offset:
            read.file, read.offset = (found.st_dev, found.st_ino), 0
        file.seek(read.offset)
        for line in file:
            if not line.endswith(b"\n"):
                break  # it is being written
            read.offset += len(line)
            if any(mark in line for mark in _MARKS):
                _note(line, read.looks)


def _note(line: bytes, looks: dict[_Pod, dict[str, Look]]) -> None:
    try:
        event = json.loads(line)
        of, status = event["objectRef"], event.get("responseStatus") or {}
        if of["resource"] != "pods" or of["subresource"] not in _INTO or int(status.get("code") or 0) >= 400:
            return
        pod, number = (str(of["namespace"]), str(of["name"])), str(event["auditID"])
        who, by, at = event["user"]["username"], event.get("userAgent"), event.get("requestReceivedTimestamp")
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return
    if event.get("stage") == "RequestReceived":
        return  # what became of it is in the next one
    look = Look(how=of["subresource"], who=_short(who), by=_short(by), at=_short(at))
    looks.setdefault(pod, {}).setdefault(number, look)
    while len(looks) > _MOST:
        del looks[next(iter(looks))]


def _short(text: object) -> str:
    return printable(str(text))[:_LETTERS]


def told(looks: tuple[Look, ...]) -> str:
    """Return "by alice with kubectl/v1.31 at 2026-… (and 2 more)"."""
    first = looks[0]
    more = f" (and {len(looks) - 1} more)" if len(looks) > 1 else ""
    return f"{first.how} by '{first.who}' with {first.by.split(' ')[0] or 'some program'} at {first.at}{more}"
