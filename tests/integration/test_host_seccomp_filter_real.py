"""Looking at a process's filters: it takes no signal from it, and lets go of it, whatever it does."""

from __future__ import annotations

import os
import platform
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_world import wait_until

from instar import syscalls
from instar.host.isolation import seccomp_filter

pytestmark = pytest.mark.root
_TAKES = """
import os, signal, time
def take(number, frame):
    os.write(1, b"took %d\\n" % number)
signal.signal(signal.SIGUSR1, take)
os.write(1, b"ready\\n")
while True:
    time.sleep(0.01)
"""
_CLONE = {"x86_64": 56, "aarch64": 220}.get(platform.machine(), 220)
_CANNOT_STOP = f"""
import ctypes, os, signal, time
print("ready", flush=True)
time.sleep(0.2)
CLONE_VFORK = 0x4000
if ctypes.CDLL(None).syscall({_CLONE}, CLONE_VFORK | signal.SIGCHLD, 0, 0, 0, 0) == 0:
    time.sleep(2)
    os._exit(0)
print("well", flush=True)
time.sleep(60)
"""


@pytest.fixture
def started() -> Iterator[Any]:
    made: list[subprocess.Popen[str]] = []

    def start(script: str) -> subprocess.Popen[str]:
        made.append(subprocess.Popen([sys.executable, "-ISc", script], stdout=subprocess.PIPE, text=True))
        assert _line(made[-1]) == "ready"
        return made[-1]

    yield start
    for one in made:
        one.kill()
        one.wait()
        assert one.stdout is not None
        one.stdout.close()


def test_a_signal_that_comes_while_it_is_looked_at_is_handed_on(started: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one, trace = started(_TAKES), syscalls.trace

    def with_a_signal(request: int, pid: int, address: int, data: int = 0) -> int:
        if request == seccomp_filter._INTERRUPT:
            os.kill(pid, signal.SIGUSR1)
            time.sleep(0.05)  # it stops for the signal first
        return trace(request, pid, address, data)

    with monkeypatch.context() as patch:
        patch.setattr(syscalls, "trace", with_a_signal)
        assert seccomp_filter.digests(one.pid) in ((), None)
    assert _line(one) == f"took {int(signal.SIGUSR1)}"
    assert _tracer(one.pid) == 0


def test_a_stopped_process_stays_stopped_and_goes_on_when_it_is_told_to(started: Any) -> None:
    one = started(_TAKES)
    one.send_signal(signal.SIGSTOP)
    wait_until(lambda: _field(one.pid, "State").startswith("T"))
    seccomp_filter.digests(one.pid)
    wait_until(lambda: _field(one.pid, "State").startswith("T"))
    one.send_signal(signal.SIGUSR1)
    one.send_signal(signal.SIGCONT)
    assert _line(one) == f"took {int(signal.SIGUSR1)}"


def test_what_does_not_stop_is_let_go_of(started: Any) -> None:
    one = started(_CANNOT_STOP)
    wait_until(lambda: _field(one.pid, "State").startswith("D"))
    with pytest.raises(TimeoutError, match="does not stop"):
        seccomp_filter.digests(one.pid)
    wait_until(lambda: _tracer(one.pid) == 0)
    assert _line(one) == "well"
    assert seccomp_filter.digests(one.pid) in ((), None), "it can be looked at later"


def _line(one: subprocess.Popen[str]) -> str:
    assert one.stdout is not None
    assert select.select([one.stdout], [], [], 10)[0], "it says nothing"
    return one.stdout.readline().strip()


def _tracer(pid: int) -> int:
    return int(_field(pid, "TracerPid"))


def _field(pid: int, name: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:"))
