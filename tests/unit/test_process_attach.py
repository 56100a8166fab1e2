"""Children on descriptors of the caller's: they hold none of its locks, and end with it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from instar import process
from instar.errors import ComponentMissing


def test_a_child_ends_with_who_started_it_and_holds_no_lock(tmp_path: Path) -> None:
    program = (
        "import os, sys, time\n"
        "from instar import process\n"
        "held = os.open('/', os.O_RDONLY)\n"
        "with process.share(held):\n"
        "    child = process.attach(['sh', '-c', 'ls -l /proc/$$/fd; exec sleep 300'], stdin=0, stdout=1,stderr=2)\n"
        "print('pid', child.pid, flush=True)\n"
        "time.sleep(300)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    lines: list[str] = []
    while not any(line.startswith("pid") for line in lines) or not any("-> pipe" in line for line in lines):
        lines.append(parent.stdout.readline())
        assert lines[-1], lines
    pid = int(next(line.split()[1] for line in lines if line.startswith("pid")))
    assert not [line for line in lines if line.endswith("-> /\n")]
    handle = os.pidfd_open(pid)
    try:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert select.select([handle], [], [], 10)[0], "it goes on"
    finally:
        os.close(handle)
        parent.stdout.close()


def test_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "PATH", "/nowhere")
    with pytest.raises(ComponentMissing, match="cannot run 'setpriv'"):
        process.attach(["true"], stdin=0, stdout=1, stderr=2)
