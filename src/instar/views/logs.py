"""What instances printed, and what was asked of them, as lines and as JSON."""

from __future__ import annotations

from instar.model.codec import to_json
from instar.model.log_line import LogLine
from instar.views.encoding import json_line


def log_json(line: LogLine) -> str:
    """Return an object on a line of its own: ``at`` is null where the line has no time."""
    if line.request is not None:
        return json_line({"at": line.at, **to_json(line.request)})
    member = {} if line.member is None else {"member": line.member}
    return json_line({"instance": line.instance, **member, "at": line.at, "stream": line.stream, "line": line.text})


def log_text(line: LogLine, *, named: bool, short: bool) -> str:
    """Return a line as it was written, or (``short``) with the time of day of this machine's zone alone."""
    text = line.written
    if short and line.at is not None:
        stream = "" if line.stream in ("stdout", "access") else f"{line.stream} "
        text = f"{line.at.astimezone():%H:%M:%S.%f}"[:-3] + f" {stream}{line.text}"
    return f"{line.source}  {text}" if named or line.member is not None else text
