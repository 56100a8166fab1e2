"""Who may only look sends whatever they like: nothing is answered but what is asked well, and nobody waits."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from instar.errors import HostError
from instar.model.progress import Progress
from instar.reading import questions
from instar.reading.client import ask
from instar.reading.door import ReadersDoor, listen_at
from instar.reading.server import OF_ONE_USER
from instar.reading.wire import question_line
from reader import GROUP, Reader, group_number

pytestmark = pytest.mark.root
PATIENCE_S = 30.0


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="instar-readers-") as made:
        Path(made).chmod(0o755)
        (Path(made) / "home").mkdir(mode=0o700)
        yield Path(made)


@pytest.fixture
def said() -> list[Progress]:
    return []


@pytest.fixture
def path(folder: Path, said: list[Progress]) -> Iterator[Path]:
    path = folder / "sockets" / "one.sock"
    door = ReadersDoor(path, GROUP, {"INSTAR_HOME": str(folder / "home")}, said.append)
    door.open()
    assert path.is_socket(), said
    yield path
    door.close()


def connected(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE_S)
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            connection.connect(str(path))
            return connection
        except BlockingIOError:  # more wait than there is room for
            assert time.monotonic() < until


def answered(path: Path, data: bytes) -> list[dict[str, Any]]:
    """Return what is answered to ``data``, without the greeting."""
    with connected(path) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        received = b""
        with contextlib.suppress(ConnectionResetError):  # something was sent that nobody read
            while piece := connection.recv(65_536):
                received += piece
    return [json.loads(line) for line in received.splitlines()][1:]


def question(verb: str, **arguments: Any) -> bytes:
    return json.dumps({"instar": questions.VERSION, "verb": verb, "arguments": arguments}).encode() + b"\n"


def is_well(path: Path) -> bool:
    answer = answered(path, question_line(questions.Environments()))
    return answer == [{"json": "[]"}, {"end": {"exit_status": 0}}]


@pytest.mark.parametrize(
    "data",
    [
        b"\n",
        b"\xff\xfe\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"[" * 10_000 + b"\n",
        b"9" * 10_000 + b"\n",
        b'{"instar": 1}\n',
        b'{"instar": 2, "verb": "status", "arguments": {}}\n',
        b'{"instar": 1, "verb": ["status"], "arguments": {}}\n',
        question("deploy", environment="web/dev"),
        question("run", command=["id"]),
        question("environments", home="/root"),
        question("status", environment="web/dev", file="/etc/shadow"),
        question("status", environment="../../etc"),
        question("status", environment="web/dev/x"),
        question("status", environment="web/../dev"),
        question("status", environment=7),
        question("status", service="a\u0000b"),
        question("logs", environments=[]),
        question("logs", environments=["web/dev"] * 1000),
        question("logs", environments=["web/dev"], instance="../../../etc/shadow"),
        question("logs", environments=["web/dev"], matching="(a+)+$"),
        question("logs", environments=["web/dev"], last=-1),
        question("logs", environments=["web/dev"], since="yesterday"),
        question("top", environment="web/dev", every_s=0.0),
        question("diff", environment="web/dev", before=10**30),
        question("explain", environment="web/dev", width=10**9),
        question("environments") + question("environments"),
        question("environments")[:-5],
        b"x" * 10_000_000,
    ],
    ids=lambda data: data[:60].decode("ascii", "replace"),
)
def test_what_is_no_question_is_refused_and_the_next_is_answered(path: Path, data: bytes) -> None:
    if not data.endswith(b"\n"):
        with connected(path) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
    else:
        told = answered(path, data)
        assert all("failure" in one and one["failure"]["exit_status"] == 64 for one in told), told
    assert is_well(path)


def test_no_more_than_a_few_are_answered_at_once_and_who_leaves_makes_room(path: Path) -> None:
    crowd = [connected(path) for _ in range(OF_ONE_USER)]
    for one in crowd:
        assert json.loads(one.recv(4096)) == {"instar": questions.VERSION}
    for _ in range(200):
        (told,) = answered(path, question("environments")) or [{"failure": {"exit_status": 75}}]
        assert told["failure"]["exit_status"] == 75
    for one in crowd:
        one.close()
    until = time.monotonic() + PATIENCE_S
    while not is_well(path):
        assert time.monotonic() < until


def test_a_thousand_connections_that_say_nothing_are_let_go(path: Path) -> None:
    for _ in range(1000):
        connected(path).close()
    until = time.monotonic() + PATIENCE_S
    while not is_well(path):
        assert time.monotonic() < until


def test_half_a_question_has_its_time_and_no_more(path: Path) -> None:
    with connected(path) as connection:
        connection.sendall(b'{"instar": 1, ')
        received = b""
        while piece := connection.recv(4096):
            received += piece
    assert "did not come in time" in received.decode()
    assert is_well(path)


def test_the_kernel_says_who_asks(path: Path, folder: Path) -> None:
    number = group_number()
    assert stat.S_IMODE(path.stat().st_mode) == 0o660 and (path.stat().st_uid, path.stat().st_gid) == (0, number)
    code = (
        "import socket, sys; c = socket.socket(socket.AF_UNIX); c.connect(sys.argv[1]);"
        "c.send(sys.argv[2].encode()) if len(sys.argv) > 2 else None;"
        "print(b''.join(iter(lambda: c.recv(4096), b'')).decode())"
    )
    words = ["/usr/bin/python3", "-c", code, str(path), question("environments").decode()]
    member, stranger = Reader(folder, groups=[5, number]), Reader(folder, groups=[5])
    assert '"end"' in member.run(words, {})[1]
    refused = stranger.start(words, {})
    assert "PermissionError" in refused.communicate(timeout=60)[1]
    path.chmod(0o666)  # by mistake: the modes are not all that there is
    told = stranger.run(words[:-1], {})[1]
    assert "you are not in the group" in told and '"end"' not in told


def test_who_answers_is_begun_again_and_nothing_else_is_taken_for_the_socket(
    folder: Path, said: list[Progress]
) -> None:
    path = folder / "sockets" / "one.sock"
    door = ReadersDoor(path, GROUP, {"INSTAR_HOME": str(folder / "home")}, said.append)
    path.parent.mkdir(mode=0o755)
    secret = folder / "secret"
    secret.write_text("x")
    path.symlink_to(secret)
    door.open()
    try:
        assert path.is_socket() and not path.is_symlink() and stat.S_IMODE(secret.stat().st_mode) != 0o660
        assert is_well(path)
        assert door._answering is not None
        door._answering.kill()
        door._answering.wait()
        until = time.monotonic() + PATIENCE_S
        while "has ended" not in said[-1].text:
            door.look()
            assert time.monotonic() < until
        assert list(ask(path, questions.Environments()))
    finally:
        door.close()


def test_a_folder_that_others_may_write_to_is_refused(folder: Path) -> None:
    for place in ("open", "link"):
        (folder / "real").mkdir(mode=0o755, exist_ok=True)
        if place == "open":
            (folder / place).mkdir()
            (folder / place).chmod(0o777)
        else:
            (folder / place).symlink_to(folder / "real")
        with pytest.raises(HostError, match="no folder of root's alone"):
            listen_at(folder / place / "one.sock", group_number())
    with pytest.raises(HostError, match="there is none"):
        from instar.reading.door import group_number as number

        number("no-such-group-here")


def test_it_ends_when_whoever_began_it_is_killed(folder: Path) -> None:
    path = folder / "sockets" / "one.sock"
    code = (
        "import sys, time; from pathlib import Path; from instar.reading.door import ReadersDoor;"
        "d = ReadersDoor(Path(sys.argv[1]), sys.argv[2], {'INSTAR_HOME': sys.argv[3]}, lambda p: None); d.open();"
        "print(d._answering.pid, flush=True); time.sleep(600)"
    )
    words = [sys.executable, "-c", code, str(path), GROUP, str(folder / "home")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as keeper:
        assert keeper.stdout is not None
        answering = os.pidfd_open(int(keeper.stdout.readline()))
        assert is_well(path)
        keeper.kill()
    assert select.select([answering], [], [], PATIENCE_S)[0]
    os.close(answering)
    with pytest.raises(ConnectionRefusedError):
        connected(path)
