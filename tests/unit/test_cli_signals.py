"""What ends a command, and what it is told of its children, whoever began it."""

from __future__ import annotations

import subprocess
import sys

RUN = """
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
from instar.cli import signals
from instar.process import run
signals.install()
print(run(["false"], check=False).returncode, run(["cat"], input=b"x").stdout)
"""


def test_how_children_end_is_known_where_whoever_began_this_did_not_want_to_know() -> None:
    ended = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "1 b'x'\n"), ended.stderr
