"""The last net: an error that nobody foresaw is told in one line, and its traceback kept in a file for root alone.

Whatever runs goes on without this process, and everything that was decided is in the ledger, so that the next command
goes on from there. The files are in the state directory, or in a temporary folder where that is not to be had.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from instar import __version__
from instar.cli.screen import warn

if TYPE_CHECKING:
    from sys import UnraisableHookArgs
    from threading import ExceptHookArgs

KEPT = 20
_SHOWN = 200
_START = "crash-"


def install_hooks() -> None:
    """Have every error that reaches the end of this process, or of one of its threads, told by :func:`report`."""
    sys.excepthook = _uncaught
    sys.unraisablehook = _unraisable
    threading.excepthook = _in_thread


def report(error: BaseException) -> None:
    """Tell of ``error`` in one line on stderr, and where its details are."""
    warn(*_words(error))


def summary(error: BaseException) -> str:
    """Return what :func:`report` says, in one line, for a log."""
    return " → ".join(_words(error))


def _words(error: BaseException) -> tuple[str, str]:
    words = " ".join(f"{type(error).__name__}: {error}".split())
    shown = words if len(words) <= _SHOWN else words[: _SHOWN - 1] + "…"
    if isinstance(error, MemoryError):
        shown = "there is not enough memory"
    hint = "instances keep running and every decision is recorded: run the command again"
    try:
        hint += f"; details, for a report of this fault: {_keep(error)}"
    except (OSError, MemoryError) as failed:
        hint += f"; its details could not be kept: {getattr(failed, 'strerror', None) or 'no memory'}"
    return f"cannot go on: an unexpected error occurred ({shown})", hint


def _keep(error: BaseException) -> Path:
    import tempfile
    import traceback

    folder, name = _folder(), f"{_START}{datetime.now(UTC):%Y%m%dT%H%M%S}-"
    descriptor, path = tempfile.mkstemp(prefix=name, suffix=".txt", dir=folder)  # 0600, and made by this process
    with os.fdopen(descriptor, "w", errors="backslashreplace") as file:
        file.write(f"instar {__version__}, Python {sys.version.split()[0]}, arguments: {sys.argv[1:]!r}\n\n")
        file.writelines(traceback.format_exception(error))
    for old in sorted(folder.glob(f"{_START}*"))[:-KEPT] if folder.name == "crashes" else ():
        old.unlink(missing_ok=True)
    return Path(path)


def _folder() -> Path:
    import tempfile

    from instar.model.state import StateDirectory

    state = StateDirectory.from_environment(os.environ, of_root=os.geteuid() == 0)
    with contextlib.suppress(OSError):
        if state.root.is_dir() and os.access(state.root, os.W_OK):  # none is made for this
            state.crashes.mkdir(mode=0o700, exist_ok=True)
            return state.crashes
    return Path(tempfile.gettempdir())


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    report(error)


def _in_thread(arguments: ExceptHookArgs) -> None:
    if arguments.exc_value is not None:
        report(arguments.exc_value)


def _unraisable(arguments: UnraisableHookArgs) -> None:
    if arguments.exc_value is not None and not isinstance(arguments.exc_value, BrokenPipeError):
        report(arguments.exc_value)
