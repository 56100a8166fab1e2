"""Who holds a lock is found out whatever it had time to write down."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from instar.errors import EnvironmentBusy
from instar.host import locks


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
