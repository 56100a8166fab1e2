"""Runs the command line and kills it with -9 before or after the N-th change, or call, that it asks of a cluster's API.

    python -B api_killer.py N COUNT_FILE WORD…
    python -B api_killer.py serve

Points are numbered from 1, two for each change: before it is asked, and after it is done and before Instar knows what
was answered. Questions about rights and trials without effect change nothing, and are not counted; with KILL_CALLS in
the environment everything that is asked is, of the gateway too. COUNT_FILE gets the number when the command came to
its end.

``serve`` runs one command after the other: of each it reads a line of JSON, [N, COUNT_FILE, OUT, ERR, WORD…], and
answers with what became of its process (as of waitpid). Each is a process of its own, forked before anything of Instar
ran, as those of ``forked_commands`` are.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import forked_commands

CHANGES = ("POST", "PATCH", "PUT", "DELETE")
LONGEST_S = 300
EVERYTHING = "KILL_CALLS" in os.environ


def serve() -> tuple[int, Path, list[str]]:
    """Return what a command's process has to run; whoever forks them ends with its standard input."""
    forked_commands.import_common()
    for line in sys.stdin:
        last, count_file, out, err, *words = json.loads(line)
        child = os.fork()
        if child == 0:
            signal.alarm(LONGEST_S)
            for number, name in enumerate((os.devnull, out, err)):
                file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
                os.dup2(file, number)
                os.close(file)
            return last, Path(count_file), words
        print(os.waitpid(child, 0)[1], flush=True)
    sys.exit()


def main() -> None:
    last, file, words = serve() if sys.argv[1] == "serve" else (int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
    sys.argv = ["instar", *words]
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
