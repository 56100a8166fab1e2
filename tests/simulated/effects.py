"""Side effects in their order, so that a test can crash the process before or after any of them.

Run once to learn how many there are (``len(effects.names)``), then once for each::

    for index in range(count):
        effects = Effects(crash_after=index)
        with pytest.raises(Crash): …       # the process dies there, and does nothing any more
        effects.revive()                   # the next process finds what the dead one left
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from instar.errors import LedgerError
from instar.ledger import Ledger
from instar.ledger.session import Session
from instar.ledger.sqlite import SQLite


class Crash(BaseException):
    """The process was killed here. Not an Exception: nothing may catch it and go on."""


class Effects:
    """Counts side effects; ``crash_before`` and ``crash_after`` are indexes into ``names``."""

    def __init__(self, *, crash_before: int | None = None, crash_after: int | None = None) -> None:
        self.names: list[str] = []
        self.dead = False
        self._before = crash_before
        self._after = crash_after
        self._watchers: list[Callable[[str], None]] = []
        self.guard = threading.RLock()

    def watch(self, watcher: Callable[[str], None]) -> None:
        """Have ``watcher`` called after every effect with its name: what must always be true is asserted there."""
        self._watchers.append(watcher)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Surround a side effect, which happens as a whole or not at all."""
        with self.guard:
            if self.dead:
                raise Crash(f"{name}: the process is dead")
            index = len(self.names)
            if index == self._before:
                self._die(f"before {name}")
            yield
            self.names.append(name)
            for watcher in self._watchers:
                watcher(name)
            if index == self._after:
                self._die(f"after {name}")

    def revive(self) -> None:
        """Let another process begin; it will not crash."""
        self.dead, self._before, self._after = False, None, None

    def _die(self, where: str) -> None:
        self.dead = True
        raise Crash(where)


class CrashableSession(Session):
    """A session whose every commit is a side effect, once it is given ``effects``."""

    effects: Effects | None = None
    _open = 0

    @contextlib.contextmanager
    def transaction(self) -> Iterator[bool]:
        outermost = self.effects is not None and self._open == 0
        with contextlib.ExitStack() as stack:
            if outermost and self.effects:
                stack.enter_context(self.effects.step("commit"))
            self._open += 1
            try:
                with super().transaction() as first:
                    yield first
            finally:
                self._open -= 1


class CrashableLedger(Ledger):
    """A real ledger whose every commit is a side effect. Give it ``effects`` before its first write.

    It waits for no disk: here only the simulated process dies, never the power.
    """

    session: CrashableSession
    session_class: type[CrashableSession] = CrashableSession

    def __init__(self, path: Path, *, actor: str, clock: Callable[[], datetime]) -> None:
        engine = SQLite(path)
        for words in ("PRAGMA synchronous = OFF", "PRAGMA journal_mode = MEMORY"):
            engine.connection.execute(words)
        super().__init__(self.session_class(engine), actor=actor, clock=clock)

    def require_none_open(self, call: str) -> None:
        """Fail when a transaction is open: nobody waits for a provider in one."""
        assert self.session._open == 0, f"'{call}' is called inside a transaction"

    @property
    def effects(self) -> Effects | None:
        return self.session.effects

    @effects.setter
    def effects(self, effects: Effects) -> None:
        self.session.effects = effects


class FaultySession(CrashableSession):
    """A session on a disk that has room for so many transactions more (None: for all)."""

    room: int | None = None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[bool]:
        if self._open == 0 and self.room is not None:
            if self.room <= 0:
                raise LedgerError("cannot write: the disk is full")
            self.room -= 1
        with super().transaction() as first:
            yield first


class FaultyLedger(CrashableLedger):
    session: FaultySession
    session_class = FaultySession
