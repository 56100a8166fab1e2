"""How questions and answers travel: a line of JSON each, in UTF-8. The agent says first which version it speaks."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final

from instar.errors import InstarError
from instar.frozen import dataclass
from instar.model.codec import from_json, parse, to_json
from instar.model.log_line import LogLine
from instar.model.logged_request import LoggedRequest
from instar.model.progress import Progress
from instar.model.usage import EnvironmentConsumption
from instar.reading.answers import Json, Part, Shown
from instar.reading.questions import Question, written
from instar.views.page import Table

LONGEST_BYTES: Final = 64 * 2**20  # of a part of an answer, and of all of one that ends


@dataclass(frozen=True, kw_only=True, slots=True)
class End:
    """The last of an answer that was given to its end."""

    exit_status: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """The last of an answer that could not be given: an error, as it is told."""

    message: str
    hint: str | None
    code: str
    exit_status: int

    @classmethod
    def of(cls, error: InstarError) -> Failure:
        return cls(message=error.message, hint=error.hint, code=error.code, exit_status=error.exit_status)

    def error(self) -> InstarError:
        """Return the error as it was raised there."""
        error = InstarError(self.message, hint=self.hint)
        error.code, error.exit_status = self.code, self.exit_status
        return error


def question_line(question: Question) -> bytes:
    return _line(written(question))


def greeting_line(version: int) -> bytes:
    return _line({"instar": version})


def greeted_version(line: bytes) -> int | None:
    """Return which version an agent says that it speaks."""
    told = parse(line)
    version = told.get("instar") if isinstance(told, dict) else None
    return version if isinstance(version, int) else None


def part_line(part: Part | End | Failure) -> bytes:
    match part:
        case Json():
            return _line({"json": part.text})
        case Shown():
            return _line({"page": [one if isinstance(one, str) else to_json(one) for one in part.page]})
        case LogLine():
            return _line({"line": [part.instance, part.written, *_beside(part)]})
        case EnvironmentConsumption():
            return _line({"figures": to_json(part)})
        case Progress():
            return _line({"progress": to_json(part)})
        case End():
            return _line({"end": to_json(part)})
        case Failure():
            return _line({"failure": to_json(part)})


def read_part(line: bytes) -> Part | End | Failure:
    """Return what :func:`part_line` wrote. Raises ValueError."""
    told = parse(line)
    if not isinstance(told, dict) or len(told) != 1:
        raise ValueError("no part of an answer")
    ((kind, value),) = told.items()
    match kind:
        case "json":
            return Json(text=str(value))
        case "page":
            return Shown(page=tuple(one if isinstance(one, str) else _table(one) for one in value))
        case "line":
            return _log_line(*value)
        case "figures":
            return from_json(EnvironmentConsumption, value)
        case "progress":
            return from_json(Progress, value)
        case "end":
            return from_json(End, value)
        case "failure":
            return from_json(Failure, value)
    raise ValueError(f"no part of an answer: {kind}")


def _beside(line: LogLine) -> tuple[Any, ...]:
    """Return what of a line does not follow from how it is written: most have nothing of it."""
    return () if line.request is None and line.member is None else (to_json(line.request), line.member)


def _log_line(instance: Any, written: Any, request: Any = None, member: Any = None) -> LogLine:
    line = LogLine.of(str(instance), str(written))
    if request is None and member is None:
        return line
    known = None if request is None else from_json(LoggedRequest, request)
    return replace(line, request=known, member=None if member is None else str(member))


def _table(told: Any) -> Table:
    rows = [[str(cell) for cell in row] for row in told["rows"]]
    return Table(rows=rows, header=None if told["header"] is None else [str(cell) for cell in told["header"]])


def _line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
