"""Who holds a lock is found out whatever it had time to write down."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from instar import locks
from instar.errors import EnvironmentBusy


@pytest.mark.parametrize("written", ["", "1", "nonsense"])
def test_a_holder_that_wrote_nothing_yet_is_found_and_ended(tmp_path: Path, written: str) -> None:
    """It was stopped between getting the lock and writing its pid; what stands there is of whoever held it before."""
    path = tmp_path / "lock"
    path.write_text(written)
    program = "import fcntl, sys, time; f = open(sys.argv[1]); fcntl.flock(f, 2); print(flush=True); time.sleep(99)"
    with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline()
        assert locks.find_holder(path) == holder.pid
        with pytest.raises(EnvironmentBusy) as busy, locks.hold(path, "it"):
            pass
        assert busy.value.pid == holder.pid
        assert locks.end_holder(path) == holder.pid
        assert holder.wait(timeout=10) == -9
    with locks.hold(path, "it"):
        assert path.read_text() == str(os.getpid())
        assert locks.find_holder(path) == os.getpid()
    with path.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_stranger_that_holds_a_lock_is_told_from_a_command_which_has_written_so(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert locks.find_unsaid_holder(path) is None
    with locks.hold(path, "it"):
        assert locks.find_unsaid_holder(path) is None
    assert locks.find_unsaid_holder(path) is None
    program = "import fcntl, sys, time; f = open(sys.argv[1]); fcntl.flock(f, 2); print(flush=True); time.sleep(99)"
    with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline()
        assert locks.find_unsaid_holder(path) == holder.pid
        holder.kill()


AGENT = """
import sys, threading
from pathlib import Path
from instar import process, threads
from instar import locks

folder = Path(sys.argv[1])
a_ended = threading.Event()

def work_on_a(_):
    with locks.hold(folder / "a", "service/a"):
        while not (folder / "child").exists():
            process.run(["sleep", "0.01"])
    a_ended.set()

def work_on_b(_):
    with locks.hold(folder / "b", "service/b"):
        threads.at_once(copy, ["one", "other"], at_most=2)

def copy(name):
    if name == "one":
        process.run(["sh", "-c", f"echo $$ >{folder}/child; exec sleep 300"], timeout_s=300)

with locks.hold(folder / "agent", "the agent", inherited=False):
    for work in (work_on_a, work_on_b):
        threads.begin(lambda work=work: work(None))
    a_ended.wait()
    print("a has ended", flush=True)
    threading.Event().wait()
"""


def test_a_long_child_keeps_its_own_environment_and_no_other_and_no_dead_agent(tmp_path: Path) -> None:
    """An agent works on two environments at once. One is done, for the other a program runs on."""
    with subprocess.Popen([sys.executable, "-c", AGENT, tmp_path], stdout=subprocess.PIPE) as agent:
        assert agent.stdout is not None and agent.stdout.readline() == b"a has ended\n"
        child = _written_pid(tmp_path / "child")
        handle = os.pidfd_open(child)
        try:
            assert locks.find_holder(tmp_path / "a") is None
            assert locks.find_holder(tmp_path / "b") == agent.pid
            assert locks.find_holder(tmp_path / "agent") == agent.pid
            agent.kill()
            agent.wait()
            assert locks.find_holder(tmp_path / "agent") is None, "what it began does not count for it"
            assert locks.find_holder(tmp_path / "b") == agent.pid, "somebody else would act beside what it began"
            with pytest.raises(EnvironmentBusy), locks.hold(tmp_path / "b", "service/b"):
                pass
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            assert select.select([handle], [], [], 10)[0]
            with locks.hold(tmp_path / "b", "service/b", wait_s=5):
                pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            os.close(handle)
            agent.kill()


def _written_pid(path: Path) -> int:
    """Return the pid that a program writes into ``path`` as its first action."""
    until = time.monotonic() + 10
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < until
        time.sleep(0.01)
    return int(path.read_text())
