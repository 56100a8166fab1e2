"""The door to subprocesses ends, whatever those behind it do."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from instar import child_output, process, threads
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


class Heard(BaseException):
    """A signal has come."""


@pytest.fixture
def unheard() -> Iterator[None]:
    """Have a signal come in half a second that no wait of this thread is ended by, as one that comes just before it."""

    def handle(number: int, frame: object) -> None:
        raise Heard

    def send() -> None:
        time.sleep(0.5)
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handle)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, before)


SLEEP = ["sleep", "20"]
WAITS: dict[str, Callable[[], object]] = {
    "pipes": lambda: process.run(SLEEP, timeout_s=30),
    "input": lambda: process.run(SLEEP, timeout_s=30, input=b"x" * 1_000_000),
    "bounded": lambda: process.run(SLEEP, timeout_s=30, most_bytes=10),
    "threads": lambda: threads.at_once(time.sleep, [5, 5], at_most=2),
}


@pytest.mark.parametrize("wait", WAITS)
def test_a_signal_that_comes_just_before_a_wait_is_heard_in_it(wait: str, unheard: None) -> None:
    began = time.monotonic()
    with pytest.raises(Heard):
        WAITS[wait]()
    assert time.monotonic() - began < (10 if wait != "threads" else 30)


def test_without_pipes_too(tmp_path: Path, unheard: None) -> None:
    began = time.monotonic()
    with (tmp_path / "out").open("wb") as out, pytest.raises(Heard):
        process.run(SLEEP, timeout_s=30, stdout=out, stderr=out)
    assert time.monotonic() - began < 10


def test_what_does_not_want_its_input_ends_well() -> None:
    assert (
        process.run(["sh", "-c", "exec <&-; sleep 0.3; echo end"], timeout_s=60, input=b"x" * 1_000_000).stdout
        == b"end\n"
    )


def test_what_ran_out_of_time_tells_what_it_had_printed(tmp_path: Path) -> None:
    for most_bytes in (None, 1_000):
        with pytest.raises(CommandFailed, match="no end after") as caught:
            script = "echo begun; sleep 0.3; echo later >&2; sleep 60"
            process.run(["sh", "-c", script], timeout_s=1, most_bytes=most_bytes)
        assert caught.value.output == "begun\nlater\n"


def test_what_is_given_and_what_is_printed_is_whole_however_long_it_takes() -> None:
    script = "sleep 0.6; cat; sleep 0.6; echo end"
    done = process.run(["sh", "-c", script], timeout_s=60, input=b"0123456789" * 300_000)
    assert done.stdout == b"0123456789" * 300_000 + b"end\n"
