"""A real agent is sent SIGHUP: it reads the machine's file again, and goes on as it was where that cannot be read."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from free_ports import free_port

PATIENCE_S = 60


class RealAgent:
    """One without any environment, in a state directory of its own. ``heard`` are the lines of its log."""

    def __init__(self, home: Path, *options: str) -> None:
        self.file = home / "config.yaml"
        self.heard: queue.Queue[str] = queue.Queue()
        self.process = subprocess.Popen(
            [sys.executable, "-B", "-m", "instar", "agent", *options],
            env={**os.environ, "INSTAR_HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def wait_for(self, word: str) -> str:
        """Return the next line that has ``word`` in it."""
        while word not in (line := self.heard.get(timeout=PATIENCE_S)):
            pass
        return line

    def reload(self, text: str) -> None:
        self.file.write_text(text)
        self.process.send_signal(signal.SIGHUP)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.heard.put(line)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[RealAgent]:
    tmp_path.chmod(0o700)
    (tmp_path / "config.yaml").write_text("agent: {log_format: json}\n")
    made = RealAgent(tmp_path, "--check", "2")
    yield made
    made.process.kill()
    made.process.wait(PATIENCE_S)


def test_it_takes_what_the_file_says_then_and_not_one_with_an_error(agent: RealAgent) -> None:
    begun = json.loads(agent.wait_for("looks after"))
    assert f"process {agent.process.pid} looks after" in begun["text"]
    agent.reload("agent: {log_formt: text}\n")
    refused = json.loads(agent.wait_for("it goes on as before"))
    assert refused["level"] == "error" and "did you mean 'log_format'" in refused["text"]
    agent.reload("agent: {log_format: text}\nledger: postgresql://ann@127.0.0.1:1/instar\n")
    assert "onnection refused" in json.loads(agent.wait_for("it goes on as before"))["text"]
    agent.reload("agent: {log_format: text}\n")
    agent.wait_for("the machine's own file is read again")
    line = agent.wait_for("looks after")
    assert f"process {agent.process.pid} looks after" in line and not line.startswith("{")
    agent.process.send_signal(signal.SIGTERM)
    agent.wait_for("instances keep running")
    assert agent.process.wait(PATIENCE_S) == 0


def test_one_that_is_told_all_the_time_ends_by_none_of_it(agent: RealAgent, capfd: pytest.CaptureFixture[str]) -> None:
    """Also before the one that was started again has come so far that it takes the signal, and while it says so."""
    port = free_port()
    agent.wait_for("looks after")
    agent.reload(f"agent: {{metrics: '127.0.0.1:{port}'}}\n")
    agent.wait_for("the machine's own file is read again")
    until = time.monotonic() + 3
    while time.monotonic() < until:
        agent.process.send_signal(signal.SIGHUP)
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S):
            pass  # somebody listens there all the time
        assert agent.process.poll() is None
    agent.process.send_signal(signal.SIGTERM)
    assert agent.process.wait(PATIENCE_S) in (0, 130), "130: before it had begun anew"
    assert "Traceback" not in capfd.readouterr().err
