"""Runs the command line and kills it with -9 before or after the N-th change, or call, that it asks of a cluster's API.

    python -IB api_killer.py N COUNT_FILE WORD…

Points are numbered from 1, two for each change: before it is asked, and after it is done and before Instar knows what
was answered. Questions about rights and trials without effect change nothing, and are not counted; with KILL_CALLS in
the environment everything that is asked is, of the gateway too. COUNT_FILE gets the number when the command came to
its end.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

CHANGES = ("POST", "PATCH", "PUT", "DELETE")
EVERYTHING = "KILL_CALLS" in os.environ


def main() -> None:
    last, file = int(sys.argv[1]), Path(sys.argv[2])
    sys.argv = ["instar", *sys.argv[3:]]
    from instar.cli.main import main as command
    from instar.providers.kubernetes.api import Api
    from instar.providers.kubernetes.gateway import ask as ask_gateway
    from instar.providers.kubernetes.sight import Sight

    guard, count = threading.Lock(), 0
    ask = Api._ask

    def point() -> None:
        nonlocal count
        with guard:
            count += 1
            if count == last:
                os.kill(os.getpid(), signal.SIGKILL)

    def counted(self: Api, method: str, path: str, what: str, **named: Any) -> bytes | None:
        is_change = method in CHANGES and "authorization.k8s.io" not in path
        is_change = is_change and "dryRun" not in (named.get("params") or {})
        if not (is_change or EVERYTHING):
            return ask(self, method, path, what, **named)
        point()
        answer = ask(self, method, path, what, **named)
        point()
        return answer

    def asked(*question: Any) -> object:
        point()
        answer = ask_gateway(*question)
        point()
        return answer

    if EVERYTHING:
        Sight.__init__.__defaults__ = (asked, *(Sight.__init__.__defaults__ or ())[1:])
    Api._ask = counted  # type: ignore[method-assign]
    try:
        command()
    finally:
        file.write_text(str(count))


main()
