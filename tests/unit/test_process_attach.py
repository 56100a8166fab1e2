"""Children on descriptors of the caller's: they have its terminal, none of its locks, and end with it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from instar import process
from instar.errors import ComponentMissing


def test_a_child_on_a_terminal_is_told_of_its_size_and_its_end(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    hears = f"trap 'echo resized' WINCH; trap 'echo gone >{tmp_path}/gone; exit 5' HUP"
    script = f"{hears}; tty; while true; do sleep 0.01; done"
    child = process.attach(["sh", "-c", script], stdin=theirs, stdout=theirs, stderr=theirs, terminal=True)
    os.close(theirs)
    until(ours, b"/dev/pts/")
    from instar.host.terminal import set_size

    set_size(ours, 33, 44)
    until(ours, b"resized")
    os.close(ours)
    assert child.wait(10) == 5
    assert (tmp_path / "gone").read_text() == "gone\n"


def until(descriptor: int, text: bytes) -> None:
    shown, deadline = b"", time.monotonic() + 10
    while text not in shown:
        assert time.monotonic() < deadline, shown
        if select.select([descriptor], [], [], 0.1)[0]:
            shown += os.read(descriptor, 4096)


def test_a_child_without_one_ends_with_who_started_it_and_holds_no_lock(tmp_path: Path) -> None:
    program = (
        "import os, sys, time\n"
        "from instar import process\n"
        "held = os.open('/', os.O_RDONLY)\n"
        "with process.share(held):\n"
        "    child = process.attach(['sh', '-c', 'ls -l /proc/$$/fd; exec sleep 300'], stdin=0, stdout=1, stderr=2,"
        " terminal=False)\n"
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
        process.attach(["true"], stdin=0, stdout=1, stderr=2, terminal=False)
