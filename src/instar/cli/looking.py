"""Looking, as whoever one is: root and whoever has a state directory look for themselves, others ask root's agent."""

from __future__ import annotations

import collections
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from instar.cli import completing
from instar.cli.options import any_workspace, saying_if_declared
from instar.cli.ownership import asks_an_agent, has_own, readers_socket, require_not_roots
from instar.cli.screen import say, show
from instar.errors import EnvironmentNotFound
from instar.model.log_line import LogLine
from instar.model.progress import Progress
from instar.reading.answers import Answer, Json, Part, Shown, answer
from instar.reading.questions import Environments, Logs, Question

if TYPE_CHECKING:
    from instar.model.usage import EnvironmentConsumption
    from instar.workspace import MachineWorkspace

_LOOKS: Final = (1_000, 30_000)  # lines


def look(
    question: Question,
    *,
    matching: re.Pattern[str] | None = None,
    line: Callable[[LogLine], str] | None = None,
    figures: Callable[[EnvironmentConsumption], None] | None = None,
) -> int:
    """Have ``question`` answered, show the answer as it comes, and return its exit status. ``line`` is how lines of
    logs are shown, ``figures`` shows what is used."""
    workspace = any_workspace()
    status = [0]
    for part in _ended(_declared(workspace, question, _answer(workspace, question, matching)), status):
        match part:
            case Json():
                say(part.text)
            case Shown():
                show(iter(part.page))
            case Progress():
                workspace.report(part)
            case LogLine():
                assert line is not None
                say(line(part))
            case _:
                assert figures is not None
                figures(part)
    return status[0]


def known_environments() -> list[str]:
    """Return which environments another's agent tells of, for a shell that completes a word."""
    import json

    workspace = any_workspace()
    if not asks_an_agent(workspace):
        return []
    found = [json.loads(part.text) for part in _answer(workspace, Environments(), None) if isinstance(part, Json)]
    return [str(name) for name in found[0]]


def _declared(workspace: MachineWorkspace, question: Question, answer: Answer) -> Answer:
    """Say of the one environment that is asked about, where none is found and no other ledger may have it, that the
    definition has it."""
    words = _words(question)
    if len(words) != 1 or words[0] is None or workspace.other_state is not None:
        return (yield from answer)
    with saying_if_declared(words[0], completing.file_of(click.get_current_context())):
        return (yield from answer)


def _words(question: Question) -> tuple[str | None, ...]:
    return question.environments if isinstance(question, Logs) else (getattr(question, "environment", None),)


def _answer(workspace: MachineWorkspace, question: Question, matching: re.Pattern[str] | None) -> Answer:
    path = readers_socket(workspace)
    if path is None:
        require_not_roots(workspace)
    if path is None or (has_own(workspace) and _is_own(workspace, question)):
        try:
            return (yield from answer(workspace, question, matching=matching))
        except EnvironmentNotFound as error:
            if workspace.other_state is not None:
                raise EnvironmentNotFound(error.message, hint=workspace.other_state) from error
            raise
    from instar.reading.client import ask

    if not isinstance(question, Logs) or matching is None:
        return (yield from ask(path, question))
    return (yield from _matching(path, question, matching))


def _is_own(workspace: MachineWorkspace, question: Question) -> bool:
    """Tell whether the caller's own ledger knows what is asked for; root's agent is asked for all else."""
    from instar.operations.environments import find_environment_id

    service = getattr(question, "service", None)
    try:
        return all(
            word is None or find_environment_id(workspace.ledger, word, service) is not None
            for word in _words(question)
        )
    except EnvironmentNotFound:
        return False


def _matching(path: Path, question: Logs, pattern: re.Pattern[str]) -> Answer:
    """Look for the pattern here: one that never ends is its author's to wait for, and no work of root's."""
    from instar.reading.client import ask

    if question.follow:
        status = [0]
        for part in _ended(ask(path, question), status):
            if not isinstance(part, LogLine) or pattern.search(part.text):
                yield part
        return status[0]
    for asked in _looks(question.last):
        status, notes, seen = [0], list[Progress](), 0
        found = collections.deque[LogLine](maxlen=question.last)
        for part in _ended(ask(path, replace(question, last=asked)), status):
            if isinstance(part, LogLine):
                seen += 1
                found.extend([part] if pattern.search(part.text) else ())
            elif isinstance(part, Progress):
                notes.append(part)
        if asked is None or seen < asked or len(found) == question.last:
            break
    yield from found
    shown = {line.instance for line in found}
    yield from (note for note in notes if note.stage != "ended" or note.text.partition(":")[0] in shown)
    return status[0]


def _looks(last: int | None) -> Iterator[int | None]:
    """Yield among how many of the last lines it is looked for so many, one after the other: no more are asked of the
    agent than are likely to be enough. None is all."""
    if last is not None:
        yield from (max(last, many) for many in _LOOKS)
    yield None


def _ended(parts: Answer, status: list[int]) -> Iterator[Part]:
    """Yield the parts of an answer, and put its exit status into ``status``."""
    status[0] = yield from parts


def terminal_width() -> int | None:
    """Return how wide pages of events are made: None where there is no terminal."""
    from instar.views.events import WIDTH

    return WIDTH if sys.stdout.isatty() else None
