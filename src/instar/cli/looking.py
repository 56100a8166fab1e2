"""Looking, as whoever one is: root and whoever has a state directory look for themselves, others ask root's agent."""

from __future__ import annotations

import collections
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from instar.cli.options import open_workspace
from instar.cli.screen import say, show
from instar.errors import EnvironmentNotFound, NotRoot
from instar.model.log_line import LogLine
from instar.model.progress import Progress
from instar.model.state import ROOTS_STATE, StateDirectory
from instar.reading.answers import Answer, Json, Part, Shown, answer
from instar.reading.questions import FOR_READERS, Environments, Logs, Question

if TYPE_CHECKING:
    from instar.model.usage import EnvironmentConsumption
    from instar.workspace import MachineWorkspace


def look(
    question: Question,
    *,
    matching: re.Pattern[str] | None = None,
    line: Callable[[LogLine], str] | None = None,
    figures: Callable[[EnvironmentConsumption], None] | None = None,
) -> int:
    """Have ``question`` answered, show the answer as it comes, and return its exit status. ``line`` is how lines of
    logs are shown, ``figures`` shows what is used."""
    workspace = open_workspace()
    status = [0]
    for part in _ended(_answer(workspace, question, matching), status):
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


def asks_an_agent() -> bool:
    """Tell whether what runs here is another's, whose agent says who may look."""
    workspace = open_workspace()
    return _socket(workspace) is not None and not _has_own(workspace)


def require_own(verb: str, instead: str) -> None:
    """Raise NotRoot where ``verb`` would be another's agent's to do."""
    if asks_an_agent():
        raise NotRoot(f"cannot {verb}: that takes root", hint=f"without, there is: {instead}; or ask again with sudo")


def readers_may() -> str | None:
    """Say what a group may do here that is not root; None where none may."""
    if os.geteuid() == 0:
        return None
    from instar.reading.client import group_of

    path = _socket(open_workspace())
    group = None if path is None else group_of(path)
    return None if group is None else f"the group '{group}' may only look, without root: {', '.join(FOR_READERS)}"


def known_environments() -> list[str]:
    """Return which environments another's agent tells of, for a shell that completes a word."""
    import json

    workspace = open_workspace()
    if _socket(workspace) is None or _has_own(workspace):
        return []
    found = [json.loads(part.text) for part in _answer(workspace, Environments(), None) if isinstance(part, Json)]
    return [str(name) for name in found[0]]


def _socket(workspace: MachineWorkspace) -> Path | None:
    """Return where an agent of another's state directory answers; None where one's own is meant, or none answers."""
    if os.geteuid() == 0:
        return None
    if workspace.environ.get("INSTAR_HOME"):
        root = workspace.state.root
        if os.access(root, os.R_OK | os.W_OK | os.X_OK):
            return None
        path = workspace.state.readers_socket
    else:
        path = StateDirectory(ROOTS_STATE.resolve(), Path("/run/instar")).readers_socket
    return path if path.is_socket() else None


def _has_own(workspace: MachineWorkspace) -> bool:
    """Tell whether the caller has a ledger in which anything happened: any verb that was refused made an empty one."""
    if workspace.environ.get("INSTAR_HOME") and not os.access(workspace.state.root, os.X_OK):
        return False
    is_there = bool(workspace.environ.get("INSTAR_LEDGER")) or workspace.state.ledger.exists()
    return is_there and bool(workspace.ledger.history(None, last=1))


def _answer(workspace: MachineWorkspace, question: Question, matching: re.Pattern[str] | None) -> Answer:
    path = _socket(workspace)
    if path is None or (_has_own(workspace) and _is_own(workspace, question)):
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

    several = question.environments if isinstance(question, Logs) else (getattr(question, "environment", None),)
    service = getattr(question, "service", None)
    try:
        return all(word is None or find_environment_id(workspace.ledger, word, service) is not None for word in several)
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
    status, notes = [0], list[Progress]()
    lines: collections.deque[LogLine] = collections.deque(maxlen=question.last)
    for part in _ended(ask(path, replace(question, last=None)), status):
        if isinstance(part, LogLine) and pattern.search(part.text):
            lines.append(part)
        elif isinstance(part, Progress):
            notes.append(part)
    yield from lines
    yield from notes
    return status[0]


def _ended(parts: Answer, status: list[int]) -> Iterator[Part]:
    """Yield the parts of an answer, and put its exit status into ``status``."""
    status[0] = yield from parts


def terminal_width() -> int | None:
    """Return how wide pages of events are made: None where there is no terminal."""
    from instar.views.events import WIDTH

    return WIDTH if sys.stdout.isatty() else None
