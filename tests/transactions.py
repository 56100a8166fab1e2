"""Inside a transaction of a ledger nobody outside is asked: no file, process, socket or lock. Every test is held to it.

Who writes a ledger keeps everybody else from writing: a provider, a store or a network that is slow there would make
them all wait, and what it does is not undone with the transaction. The interpreter tells of each such call before it
is made (PEP 578), and here it fails while the thread that makes it has a transaction open.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from instar.ledger.session import Session

_OUTSIDE = ("open", "os.", "shutil.", "subprocess.", "socket.", "fcntl.", "tempfile.", "glob.", "pathlib.")
_AT_ONCE = "os.kill"  # a signal waits for nobody
_HERE = Path(__file__).parent
_OF_PROGRAMS = (sys.prefix, sys.base_prefix, str(_HERE), str(_HERE.parent / "src"))


class OutsideInTransaction(AssertionError):
    """Something outside the database was called inside a transaction."""


class _OfThread(threading.local):
    def __init__(self) -> None:
        self.open = set[int]()  # the sessions that have a transaction open, by their ids


_of_thread = _OfThread()


def watch() -> None:
    """Hold everything in this process to it from now on."""
    begin, end, undo = Session._begin, Session._end, Session._undo

    def began(session: Session, part: str) -> None:
        begin(session, part)
        if session._depth == 1:
            _of_thread.open.add(id(session))

    def ended(session: Session, part: str) -> None:
        _forget(session)
        end(session, part)

    def undone(session: Session, part: str) -> None:
        _forget(session)
        undo(session, part)

    Session._begin, Session._end, Session._undo = began, ended, undone  # type: ignore[method-assign]
    sys.addaudithook(_heard)


@contextlib.contextmanager
def permitted() -> Iterator[None]:
    """Let a test itself do inside a transaction what nobody else may."""
    kept, _of_thread.open = _of_thread.open, set()
    try:
        yield
    finally:
        _of_thread.open = kept


def _forget(session: Session) -> None:
    if session._depth == 1:
        _of_thread.open.discard(id(session))


def _heard(event: str, arguments: tuple[object, ...]) -> None:
    if _of_thread.open and event.startswith(_OUTSIDE) and event != _AT_ONCE and not _is_import(arguments):
        raise OutsideInTransaction(f"{event}{arguments} inside a transaction of the ledger")


def _is_import(arguments: tuple[object, ...]) -> bool:
    """Tell whether the call is the interpreter's own, which reads programs when they are first used."""
    return bool(arguments) and isinstance(arguments[0], str) and arguments[0].startswith(_OF_PROGRAMS)
