"""The door to subprocesses ends, whatever those behind it do."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from instar import child_output, process
from instar.errors import CommandFailed


def test_a_grandchild_in_a_session_of_its_own_cannot_hold_up_a_time_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_output, "_REST_S", 0.2)
    script = f"echo begun; setsid sh -c 'echo $$ >{tmp_path}/pid; exec sleep 60' & sleep 60"
    began = time.monotonic()
    try:
        with pytest.raises(CommandFailed, match="no end after") as caught:
            process.run(["sh", "-c", script], timeout_s=0.5)
        assert caught.value.timed_out
        assert caught.value.output == "begun\n"
        assert time.monotonic() - began < 10
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
