"""The questions that can be asked: a closed list, each with what it says besides, and within which bounds.

None of them has a path, a variable, a command or a pattern in it. Whoever may only look sends one as JSON, and whoever
answers is root: so :func:`parse` takes nothing that is not exactly as it stands here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any, Final, TypeAlias

from instar.errors import UsageError
from instar.frozen import dataclass
from instar.model.codec import from_json, parse, to_json
from instar.model.names import NAME

VERSION: Final = 1
LONGEST_BYTES: Final = 16_384  # of a question, as JSON
_MOST_ENVIRONMENTS: Final = 32
_LARGEST: Final = 2**31 - 1
_INSTANCE: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,199}", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Environments:
    """Which environments are there?"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """How is ``environment`` (ENV of ``service``, or SERVICE/ENV), or each one (of ``service``) at a glance?"""

    environment: str | None = None
    service: str | None = None
    as_json: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Explain:
    """Why is it as it is? ``width``: of a terminal, None where there is none."""

    environment: str
    service: str | None = None
    as_json: bool = False
    width: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """What happened, to one environment or to all?"""

    environment: str | None = None
    service: str | None = None
    last: int | None = None
    as_json: bool = False
    width: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Logs:
    """What did the instances of these environments print (or, ``access``, which requests came to them), and, to
    ``follow``, what do they from now on?"""

    environments: tuple[str, ...]
    service: str | None = None
    instance: str | None = None
    release: int | None = None
    role: str | None = None
    last: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    follow: bool = False
    access: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Top:
    """What do its instances use, once or (``live``) again and again?"""

    environment: str
    service: str | None = None
    every_s: float
    live: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Diff:
    """What is different between two releases?"""

    environment: str
    service: str | None = None
    before: int | None = None
    after: int | None = None
    all_files: bool = False
    as_json: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """What runs by the clock?"""

    environment: str
    service: str | None = None
    as_json: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class LastDrift:
    """What did the agent find when it last checked that what runs is what was baked?"""

    environment: str
    service: str | None = None
    as_json: bool = False


Question: TypeAlias = Environments | Status | Explain | History | Logs | Top | Diff | Schedule | LastDrift

VERBS: Final[Mapping[str, type[Question]]] = {
    "environments": Environments,
    "status": Status,
    "explain": Explain,
    "history": History,
    "logs": Logs,
    "top": Top,
    "diff": Diff,
    "schedule": Schedule,
    "drift": LastDrift,
}
FOR_READERS: Final = tuple(verb for verb in VERBS if verb != "environments")


def is_live(question: Question) -> bool:
    """Tell whether the answer goes on until somebody ends it."""
    return (isinstance(question, Logs) and question.follow) or (isinstance(question, Top) and question.live)


def written(question: Question) -> dict[str, Any]:
    """Return a question as JSON has it."""
    verb = next(verb for verb, kind in VERBS.items() if type(question) is kind)
    return {"instar": VERSION, "verb": verb, "arguments": to_json(question)}


def read_question(data: bytes) -> Question:
    """Return what :func:`written` made. Raises UsageError for anything else."""
    try:
        told = parse(data)
    except (ValueError, UnicodeDecodeError):
        raise UsageError("cannot read the question: it is not JSON") from None
    if not isinstance(told, dict) or told.keys() != {"instar", "verb", "arguments"}:
        raise UsageError("cannot read the question: it is not {instar, verb, arguments}")
    if told["instar"] != VERSION:
        raise UsageError(
            f"cannot answer: this agent understands questions of version {VERSION}, and was asked one of another",
            hint="the agent and the command are of different versions of Instar: restart the agent",
        )
    kind = VERBS.get(told["verb"]) if isinstance(told["verb"], str) else None
    if kind is None:
        raise UsageError("cannot answer: nobody may ask that", hint=f"there are: {', '.join(FOR_READERS)}")
    arguments = told["arguments"]
    known = {field.name for field in fields(kind)}
    if not isinstance(arguments, dict) or not arguments.keys() <= known:
        raise UsageError("cannot read the question: it says what it may not say")
    try:
        question = from_json(kind, arguments)
    except ValueError as error:
        raise UsageError("cannot read the question: what it says has other types") from error
    _require_within_bounds(question)
    return question


def _require_within_bounds(question: Question) -> None:
    for field in fields(question):
        value = getattr(question, field.name)
        if value is not None and not _BOUNDS[field.name](value):
            raise UsageError(f"cannot answer: its '{field.name}' is none that there can be")


def _is_name(text: str) -> bool:
    return NAME.fullmatch(text) is not None


def _is_environment(text: str) -> bool:
    names = text.split("/")
    return len(names) <= 2 and all(map(_is_name, names))


def _counts(number: int) -> bool:
    return 1 <= number <= _LARGEST


_BOUNDS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "environment": _is_environment,
    "environments": lambda several: 0 < len(several) <= _MOST_ENVIRONMENTS and all(map(_is_environment, several)),
    "service": _is_name,
    "instance": lambda text: _INSTANCE.fullmatch(text) is not None,
    "role": _is_name,
    "release": _counts,
    "before": _counts,
    "after": _counts,
    "last": lambda number: 0 <= number <= _LARGEST,
    "width": lambda columns: 1 <= columns <= 1000,
    "every_s": lambda seconds: 0.5 <= seconds <= 3600,
    "since": lambda at: at.tzinfo is not None,
    "until": lambda at: at.tzinfo is not None,
    **dict.fromkeys(("as_json", "all_files", "follow", "live", "access"), lambda flag: True),
}
