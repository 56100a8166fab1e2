"""What is shipped: a line of a log, with what it is of, as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from instar.frozen import dataclass
from instar.model.codec import to_json
from instar.model.log_stream import LogStream
from instar.model.logged_request import read
from instar.shipping.tail import Line

ACCESS = "access"
_SAID_BESIDE = ("environment", "instance", "release", "role")


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """Whose instance it is."""

    service: str
    environment: str
    release: int
    role: str | None


Find = Callable[[str], Owner | None]  # by the id of an instance


def record(stream: LogStream, line: Line, find: Find) -> Mapping[str, Any] | None:
    """Return a line as it is shipped; None for one that is damaged."""
    if stream.kind == "instance":
        return _record(line, stream.name, find(stream.name), line.message)
    service, _, environment = stream.name.partition("/")
    if line.stream != ACCESS:
        return _record(line, None, None, line.message) | {"service": service, "environment": environment}
    request = read(stream.name, line.message)
    if request is None:
        return None
    found = _record(line, request.instance, find(request.instance) if request.instance else None, request.text)
    said = {key: value for key, value in to_json(request).items() if key not in _SAID_BESIDE}
    return found | {"service": service, "environment": environment, "request": said}


def written(record: Mapping[str, Any]) -> bytes:
    """Return a record as a line, in ASCII: no byte of a message ends it."""
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _record(line: Line, instance: str | None, owner: Owner | None, message: str) -> dict[str, Any]:
    return {
        "time": line.at,
        "service": owner.service if owner else None,
        "environment": owner.environment if owner else None,
        "release": owner.release if owner else None,
        "role": owner.role if owner else None,
        "instance": instance,
        "stream": line.stream,
        "message": message,
        **({"partial": True} if line.partial else {}),
    }
