"""The few words that a service says to systemd. Source: sd_notify(3). Without systemd nothing is said."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping


def notify(environ: Mapping[str, str], words: str) -> None:
    """Say "READY=1", "WATCHDOG=1" or "STOPPING=1"."""
    path = environ.get("NOTIFY_SOCKET")
    if not path:
        return
    address = f"\0{path[1:]}" if path.startswith("@") else path
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as one:
        one.sendto(words.encode(), address)


def under_a_journal(environ: Mapping[str, str]) -> bool:
    """Tell whether standard output goes to the journal, which writes down times by itself."""
    with contextlib.suppress(OSError):
        found = os.fstat(1)
        return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
    return False
