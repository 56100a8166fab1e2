"""Who is watched is told of when it ends, once, and a call wakes whoever waits."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from instar.end_watch import EndWatch
from instar.host.processes import processes
from instar.process import Process


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(["sleep", "100"])
    yield child
    child.kill()
    child.wait()


def identity(child: subprocess.Popen[bytes]) -> Process:
    found = processes.identify(child.pid)
    assert found is not None
    return found


def opened(*wanted: Process) -> dict[Process, Callable[[], int | None]]:
    return {process: partial(processes.open_process, process) for process in wanted}


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_an_end_is_seen_at_once_and_told_once(sleeper: subprocess.Popen[bytes]) -> None:
    ends, process = EndWatch[Process](), identity(sleeper)
    ends.watch(opened(process))
    assert list(ends.wait(0.01)) == []
    began = time.monotonic()
    threading.Timer(0.1, sleeper.kill).start()
    assert list(ends.wait(10)) == [process]
    assert time.monotonic() - began < 5
    ends.watch(opened(process))
    assert list(ends.wait(0.01)) == []


def test_a_call_wakes_who_waits_and_is_over_then(sleeper: subprocess.Popen[bytes]) -> None:
    ends = EndWatch[Process]()
    ends.watch(opened(identity(sleeper)))
    threading.Timer(0.1, ends.wake).start()
    began = time.monotonic()
    assert list(ends.wait(10)) == [] and time.monotonic() - began < 5
    began = time.monotonic()
    assert list(ends.wait(0.1)) == [] and time.monotonic() - began >= 0.09


def test_who_is_gone_before_it_is_watched_and_a_number_used_again_are_no_news(
    sleeper: subprocess.Popen[bytes],
) -> None:
    ends, process = EndWatch[Process](), identity(sleeper)
    other = Process(boot_id=process.boot_id, pid=process.pid, start_time=process.start_time + 1)
    gone = Process(boot_id=process.boot_id, pid=4_194_304, start_time=1)
    ends.watch(opened(other, gone))
    sleeper.kill()
    sleeper.wait()
    assert process not in list(ends.wait(0.05))


def test_no_descriptor_is_kept_of_who_is_no_longer_watched(sleeper: subprocess.Popen[bytes]) -> None:
    ends, process = EndWatch[Process](), identity(sleeper)
    before = descriptors()
    for _ in range(5):
        ends.watch(opened(process))
        ends.watch(opened())
    assert descriptors() == before
