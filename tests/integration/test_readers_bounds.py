"""Who may only look, and asks for too much or does not read: they are dropped, and others are answered meanwhile."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.errors import InstarError
from instar.ledger import Ledger
from instar.model.environment import Settings
from instar.model.log_line import LogLine
from instar.model.logged_request import LoggedRequest
from instar.model.release import EnvironmentId
from instar.reading import asked, questions
from instar.reading.answers import Answer, Json
from instar.reading.client import ask
from instar.reading.door import ReadersDoor
from instar.reading.wire import part_line, question_line, read_part
from instar.views.logs import log_json
from reader import GROUP

pytestmark = pytest.mark.root
DEV = EnvironmentId(service="web", name="dev")


@pytest.fixture
def home() -> Iterator[Path]:
    """A ledger with some megabytes of history."""
    with tempfile.TemporaryDirectory(prefix="instar-readers-") as made:
        home = Path(made) / "home"
        home.mkdir(mode=0o700)
        with Ledger(home / "ledger" / "instar.db", actor="ann") as ledger:
            ledger.save_settings(DEV, Settings())
            for number in range(200):
                ledger.set_alarm(DEV, f"{number}: {'x' * 20_000}")
                ledger.set_alarm(DEV, None)
        yield home


@pytest.fixture
def path(home: Path) -> Iterator[Path]:
    path = home.parent / "sockets" / "one.sock"
    door = ReadersDoor(path, GROUP, {"INSTAR_HOME": str(home)}, lambda progress: None)
    door.open()
    yield path
    door.close()


@pytest.mark.thorough
def test_who_does_not_read_is_dropped_and_others_are_answered(path: Path) -> None:
    question = questions.History(as_json=True)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(question_line(question))
        connection.recv(1)  # its answer has begun
        (part,) = [one for one in ask(path, question) if isinstance(one, Json)]
        assert len(json.loads(part.text)) > 200
        wait_until_alone(connection)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(1_000_000):
                received += piece
    assert 0 < len(received) < len(part.text) and b'{"end"' not in received


def wait_until_alone(connection: socket.socket) -> None:
    """Wait, without reading, until the other end is closed."""
    import select

    gone = select.poll()
    gone.register(connection, select.POLLRDHUP)
    assert gone.poll(60_000)


def answered_here(monkeypatch: pytest.MonkeyPatch, answer: Answer, question: questions.Question) -> bytes:
    """Have a process answer as the server's do, with what ``answer`` yields; return all that it sends."""
    monkeypatch.setattr(asked, "answer", lambda workspace, question: answer)
    monkeypatch.setattr(asked, "_ENDS_WITHIN_S", 1.0)
    monkeypatch.setattr(asked, "_LARGEST_BYTES", asked._memory_bytes() + asked._LARGEST_BYTES)  # the tests' own besides
    ours, theirs = socket.socketpair()
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            ours.close()
            asked.answer_one(theirs, {"INSTAR_HOME": "/nonexistent"})
        os._exit(0)
    theirs.close()
    with ours:
        ours.settimeout(60)
        ours.sendall(question_line(question))
        received = b"".join(iter(lambda: ours.recv(1_000_000), b""))
    os.waitpid(child, 0)
    return received


def test_an_answer_without_an_end_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless() -> Answer:
        while True:
            pass
        yield Json(text="")

    received = answered_here(monkeypatch, endless(), questions.Status())
    assert "takes too long" in received.decode()


def test_an_answer_that_is_too_large_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def large() -> Answer:
        yield Json(text="x" * (65 * 2**20))
        return 0

    received = answered_here(monkeypatch, large(), questions.Status())
    assert len(received) < 1000 and "--last N" in received.decode()


def test_an_answer_that_needs_all_memory_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "_LARGEST_BYTES", 256 * 2**20)
    monkeypatch.setattr(asked, "_LOOK_MS", 1)

    def hungry() -> Answer:
        kept = []
        while True:
            kept.append(os.urandom(1 << 20))
        yield Json(text="")

    received = answered_here(monkeypatch, hungry(), questions.Logs(environments=("web/dev",), follow=True))
    assert "too much for somebody who is not root" in received.decode()


@pytest.mark.parametrize(("instance", "release", "role"), [("web-dev-1-1", 1, "web"), (None, None, None)])
def test_a_request_that_was_written_down_is_read_as_root_reads_it(
    instance: str | None, release: int | None, role: str | None
) -> None:
    request = LoggedRequest(
        environment="web/dev",
        client="203.0.113.9",
        method="GET",
        host="a.test",
        path="/ä\x1b",
        protocol="HTTP/1.1",
        status=None,
        bytes=0,
        ms=None,
        instance=instance,
        release=release,
        role=role,
    )
    line = LogLine.of("web/dev", f"2026-01-01T00:00:00Z access {request.text}")
    line = dataclasses.replace(line, request=request)
    received = read_part(part_line(line))
    assert received == line and isinstance(received, LogLine)
    assert log_json(received) == log_json(line)


def test_a_line_of_a_member_is_read_as_root_reads_it() -> None:
    line = LogLine.of("web-dev-1", "2026-01-01T00:00:00Z stdout@web-dev-1-x7 hello")
    assert line.member == "web-dev-1-x7" and read_part(part_line(line)) == line


def test_parts_are_read_as_they_were_written() -> None:
    line = LogLine.of("web-dev-1-1", "2026-01-01T00:00:00Z stderr \x1b[31m \udc80 \u2028\n")
    assert read_part(part_line(line)) == line and part_line(line).count(b"\n") == 1
    for damaged in (b"", b"[]", b"{}", b'{"page": [{}]}', b'{"end": {}}', b'{"other": 1}', b'{"line": []}'):
        with pytest.raises((ValueError, KeyError, IndexError, TypeError)):
            read_part(damaged)


def test_what_listens_there_and_is_not_the_agent_is_not_believed(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "one.sock"))
        listening.listen()
        answering = ask(tmp_path / "one.sock", questions.Status())
        child = os.fork()
        if not child:
            connection, _ = listening.accept()
            connection.sendall(b'{"instar": 9}\n')
            os._exit(0)
        with pytest.raises(InstarError, match="speaks version 9"):
            next(answering)
        os.waitpid(child, 0)
