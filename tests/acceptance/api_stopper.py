"""Runs the command line and stops it (SIGSTOP) right before the first call to a cluster's API that is meant.

    python -IB api_stopper.py METHOD PATTERN WORD…

PATTERN is a regular expression that is searched in the call's path and what it says. It stops once: who continues it
lets it make that very call.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
from typing import Any


def main() -> None:
    wanted, pattern = sys.argv[1], re.compile(sys.argv[2])
    sys.argv = ["instar", *sys.argv[3:]]
    from instar.cli.main import main as command
    from instar.providers.kubernetes.api import Api

    guard, stopped = threading.Lock(), []
    ask = Api._ask

    def watched(self: Api, method: str, path: str, what: str, **named: Any) -> bytes | None:
        told = f"{path} {json.dumps(named.get('body'))}"
        with guard:
            if (
                method == wanted
                and not stopped
                and "dryRun" not in (named.get("params") or {})
                and pattern.search(told)
            ):
                stopped.append(told)
                os.kill(os.getpid(), signal.SIGSTOP)
        return ask(self, method, path, what, **named)

    Api._ask = watched  # type: ignore[method-assign]
    command()


main()
