"""Runs the command line and kills it with -9 at the N-th thing that it does to the world, whatever that is.

    python -IB killer.py N COUNT_FILE WORD…

What it does is told by the interpreter itself (audit events: files opened to be written, renamed and removed, programs
started, connections, signals, foreign calls) and by SQLite (each statement that writes, and each commit). Nothing here
lists what Instar does: only what is known to change nothing is left out, so that whatever is new counts. Killed before
one is killed after the one before. COUNT_FILE gets the number when the command came to its end. KILLER_CLOCK_S: by so
many seconds the ledger's clock is ahead, or behind.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sqlite3
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

HARMLESS = (
    "import", "compile", "exec", "object.", "sys.", "code.", "marshal.", "pickle.", "builtins.", "cpython.", "gc.",
    "glob.", "os.listdir", "os.scandir", "os.walk", "os.fwalk", "os.chdir", "os.getxattr", "os.listxattr", "pathlib.",
    "tempfile.", "socket.__new__", "socket.gethost", "socket.getaddrinfo", "sqlite3.connect", "time.", "mmap.",
    "shutil.", "fcntl.", "ctypes.dlopen", "ctypes.dlsym", "ctypes.cdata", "ctypes.addressof", "ctypes.string_at",
    "ctypes.get_errno", "ctypes.set_errno", "signal.", "setopencodehook", "threading", "_thread", "resource.",
    "syslog.", "array.",
)  # fmt: skip
HANGS_S = 90
WRITES = ("INSERT", "UPDATE", "COMMIT", "DELETE", "RELEASE")


class Count:
    def __init__(self, last: int) -> None:
        self.last = last
        self.number = 0
        self.guard = threading.Lock()

    def one(self, what: str) -> None:
        with self.guard:
            self.number += 1
            if os.environ.get("KILLER_TRACE"):
                os.write(2, f"{self.number} {what}\n".encode())
            if self.number == self.last:
                os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    faulthandler.dump_traceback_later(HANGS_S)  # who waits for it is told where it hangs
    last, file = int(sys.argv[1]), Path(sys.argv[2])
    sys.argv = ["instar", *sys.argv[3:]]
    from instar.cli.main import main as command

    if ahead_s := float(os.environ.get("KILLER_CLOCK_S", "0")):
        set_clock(timedelta(seconds=ahead_s))
    count = Count(last)
    watched = False

    def hook(event: str, values: tuple[Any, ...]) -> None:
        if watched and not event.startswith(HARMLESS) and not (event == "open" and _reads(values)):
            if event == "os.kill" and values[1] == signal.SIGKILL and values[0] == os.getpid():
                return
            count.one(f"{event} {values}"[:150])

    def told(text: str) -> None:
        if watched and text.startswith(WRITES):
            count.one(text[:100])

    connect = sqlite3.connect

    def traced(*values: Any, **named: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*values, **named)
        connection.set_trace_callback(
            lambda text: count.one(text[:100]) if watched and text.startswith(WRITES) else None
        )
        return connection

    sqlite3.connect = traced  # type: ignore[assignment]
    sys.addaudithook(hook)
    watched = True
    try:
        command()
    finally:
        watched = False
        file.write_text(str(count.number))


def set_clock(ahead: timedelta) -> None:
    from instar.ledger.sqlite import SQLite

    SQLite.now = lambda self: datetime.now(UTC) + ahead  # type: ignore[method-assign]


def _reads(values: tuple[Any, ...]) -> bool:
    mode, flags = values[1], values[2]
    if isinstance(mode, str):
        return not set(mode) & set("wax+")
    return not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)


main()
