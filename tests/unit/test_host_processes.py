"""Processes known for ever, ended only when they are the ones that were meant."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from instar.host.processes import proc, processes


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    made = subprocess.Popen([sys.executable, "-c", "print('x', flush=True); input()", "a word of its own"],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    assert made.stdout is not None
    made.stdout.readline()
    yield made
    made.kill()
    made.communicate()


def test_a_zombie_is_dead(child: subprocess.Popen[bytes]) -> None:
    known = processes.identify(child.pid)
    assert known is not None
    assert processes.lives(known)
    assert not processes.wait(known, 0.01)
    os.kill(child.pid, signal.SIGKILL)
    assert processes.wait(known, 5)
    assert os.kill(child.pid, 0) is None  # type: ignore[func-returns-value]  # it is still to be collected
    assert not processes.lives(known)
    assert processes.identify(child.pid) is None


@pytest.mark.parametrize("change", [{"start_time": 1}, {"boot_id": "another"}])
def test_another_process_of_the_same_number_is_let_live(
    child: subprocess.Popen[bytes], change: dict[str, object]
) -> None:
    known = processes.identify(child.pid)
    assert known is not None
    other = dataclasses.replace(known, **change)  # type: ignore[arg-type]
    assert not processes.lives(other)
    assert not processes.send(other, signal.SIGKILL)
    assert processes.kill(other)
    assert processes.lives(known)
    assert processes.kill(known)


def test_it_is_found_by_its_words(child: subprocess.Popen[bytes]) -> None:
    found = processes.find(lambda words: "a word of its own" in words)
    assert [process.pid for process, _ in found] == [child.pid]


@pytest.mark.root
@pytest.mark.parametrize(
    "disguise",
    [["setpriv", "--reuid=65534", "--clear-groups"], ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]],
)
def test_what_somebody_else_or_an_instance_has_started_is_not_found(disguise: list[str]) -> None:
    words = ["sh", "-c", "echo; read line; exit 0", "posing as another"]
    made = subprocess.Popen([*disguise, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert made.stdout is not None
        made.stdout.readline()
        found = processes.find(lambda found: list(found) == words)
        assert found == ()
        assert any(list(processes.command_line(pid)) == words for pid in proc.pids())
    finally:
        made.communicate(b"\n")


def test_it_is_found_while_it_becomes_another_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two programs it has no words, for some 100 us each time."""
    again = "import os, sys; os.execv(sys.executable, [sys.executable, '-I', '-S', '-c', sys.argv[1], sys.argv[1]])"
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", again, again])
    try:
        monkeypatch.setattr(proc, "pids", lambda: [child.pid])
        assert all(processes.find(lambda words: again in words) for _ in range(3_000))
    finally:
        child.kill()
        child.wait()


def test_what_is_blocked_or_caught_is_heard(child: subprocess.Popen[bytes]) -> None:
    known = processes.identify(child.pid)
    assert known is not None
    assert processes.hears(known, signal.SIGINT)  # Python catches it
    assert not processes.hears(known, signal.SIGTERM)
