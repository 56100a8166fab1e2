"""Whose turn it is to act on an environment: of whoever has it, or of somebody else while that one only waits.

Who has an environment (``locks.py``) has it from the beginning of a verb to its end, which may be hours: nobody else
begins another rollout meanwhile. To act takes the turn too, a second lock: who has the environment takes it before
anything is done, gives it away for each pause, and decides nothing, writes nothing and tells a provider nothing before
it is theirs again. So there is one at a time who acts, and after each pause everything is looked at anew.

Who has an environment has the file of the turn open for as long, which an older Instar, that knows of no turns and acts
whenever it likes, has not: of that one nobody takes the turn. When a holder dies, who has the turn goes on with what
they do, and whoever has the environment next waits for that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from instar import locks
from instar.errors import EnvironmentBusy
from instar.model.progress import Progress, Report

_QUIETLY_S = 0.5
_AGAIN_S = 5.0  # from one attempt to have it back to the next
_had: dict[Path, contextlib.ExitStack] = {}  # by the lock of the environment, where this process has the turn


def turn_lock(path: Path) -> Path:
    """Return the lock of whose turn it is to act on the environment that has its lock at ``path``."""
    return path.parent / "turns" / path.name


@contextlib.contextmanager
def acting(path: Path, what: str, *, wait_s: float) -> Iterator[None]:
    """Have the turn inside, except where it is given away. The caller has the lock at ``path``.

    Raises EnvironmentBusy.
    """
    turn = turn_lock(path)
    with locks.opened(turn), contextlib.ExitStack() as held:
        held.enter_context(locks.hold(turn, what, wait_s=wait_s))
        _had[path] = held
        try:
            yield
        finally:
            _had.pop(path, None)


@contextlib.contextmanager
def given_away(path: Path, what: str, report: Report) -> Iterator[None]:
    """Let others act inside, if the turn is this process's; afterwards it is so again, however long that takes.

    Raises EnvironmentBusy where it is interrupted before: then nothing may be done any more, nor undone.
    """
    held = _had.pop(path, None)
    if held is None:
        yield
        return
    try:
        held.close()
        yield
    finally:
        _take_back(held, turn_lock(path), what, report)
        _had[path] = held


def _take_back(held: contextlib.ExitStack, turn: Path, what: str, report: Report) -> None:
    held.close()  # it was not, where an interruption came first
    wait_s, told = _QUIETLY_S, None
    while True:
        try:
            held.enter_context(locks.hold(turn, what, wait_s=wait_s))
            return
        except EnvironmentBusy as busy:
            if busy.pid != told:
                report(Progress(stage="wait", text=f"for process {busy.pid or '(unknown)'}, which begins a command"))
            wait_s, told = _AGAIN_S, busy.pid
        except KeyboardInterrupt as interruption:
            pid = locks.find_holder(turn)
            cause = f"cannot go on with '{what}': process {pid or '(unknown)'} begins a command there, and does not end"
            raise EnvironmentBusy(cause, pid=pid, hint="end that process, then ask again") from interruption


def gives_away(pid: int, path: Path) -> bool:
    """Tell whether a process, which has the lock at ``path``, lets others act while it waits."""
    return locks.has_open(pid, turn_lock(path))
