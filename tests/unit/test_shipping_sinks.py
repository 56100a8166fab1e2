"""Where logs go: what each takes, and what is said when it does not."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from instar.model.machine import ShipSettings
from instar.shipping.sinks import Command, File, Journald, Socket, Undelivered, sink_of, words

RECORD: dict[str, Any] = {
    **{"time": "2026-01-01T00:00:00Z", "service": "web", "environment": "dev", "release": 1, "role": None},
    **{"instance": "web-dev-1-1", "stream": "stderr", "message": "näh\nMESSAGE=forged \x1b"},
}


def lines(data: bytes) -> list[Any]:
    return [json.loads(line) for line in data.splitlines()]


def test_a_command_gets_lines_and_has_taken_them_when_it_ends_with_0(tmp_path: Path) -> None:
    got = tmp_path / "got"
    script = f"import sys, os; open({str(got)!r}, 'ab').write(sys.stdin.buffer.read()); print(os.getcwd())"
    sink = Command([sys.executable, "-c", script])
    sink.check()
    sink.send([RECORD, RECORD])
    assert lines(got.read_bytes()) == [RECORD, RECORD]
    with pytest.raises(Undelivered, match="exit status 3"):
        Command(["sh", "-c", "cat >/dev/null; exit 3"]).send([RECORD])
    with pytest.raises(Undelivered, match="no end after"):
        Command(["sh", "-c", "sleep 60"], timeout_s=0.2).send([RECORD])
    with pytest.raises(Undelivered, match="there is no program 'no-such-program' that can be run"):
        Command(["no-such-program"]).check()
    with pytest.raises(Undelivered, match="no-such-program"):
        Command(["no-such-program"]).send([RECORD])


def test_what_a_command_said_last_is_why_it_has_taken_nothing() -> None:
    script = "import sys; sys.stderr.write('try\\n' * 200_000 + 'the server said 503\\x1b[2J\\n\\n'); sys.exit(22)"
    with pytest.raises(Undelivered) as told:
        Command([sys.executable, "-c", script]).send([RECORD])
    assert str(told.value).endswith("exit status 22: the server said 503?[2J")
    assert len(str(told.value)) < 500


def test_a_command_that_reads_nothing_and_prints_without_end_costs_no_memory_and_ends_in_time() -> None:
    began = time.monotonic()
    with pytest.raises(Undelivered, match="no end after"):
        Command(["sh", "-c", "while :; do echo and on and on >&2; done"], timeout_s=0.3).send([RECORD] * 5_000)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("status", [0, 1])
@pytest.mark.parametrize("goes_on", ["sleep 60", "yes"])
def test_a_child_that_outlives_its_command_holds_no_thread_and_no_pipe(
    tmp_path: Path, status: int, goes_on: str
) -> None:
    """It has the command's standard error, says nothing or says it without end, and is a session of its own."""
    pid = tmp_path / "pid"
    script = f"setsid sh -c 'echo $$ >{pid}; exec {goes_on} >&2' & while [ ! -s {pid} ]; do :; done; exit {status}"
    before = (threading.active_count(), len(list(Path("/proc/self/fd").iterdir())))
    try:
        with contextlib.suppress(Undelivered):
            Command(["sh", "-c", script]).send([RECORD])
        assert (threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))) == before
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid.read_text()), signal.SIGKILL)


def test_a_file_is_appended_to_and_may_be_moved_away(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    sink = File(path)
    sink.check()
    sink.send([RECORD])
    path.rename(tmp_path / "out.jsonl.1")
    sink.send([RECORD])
    assert lines(path.read_bytes()) == lines((tmp_path / "out.jsonl.1").read_bytes()) == [RECORD]
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/passwd")
    for name, cause in (
        ("none/out", "No such file"),
        ("pipe", "No such device"),
        ("link", "symbolic links"),
        (".", "Is a directory"),
    ):
        for do in (File(tmp_path / name).check, lambda name=name: File(tmp_path / name).send([RECORD])):  # type: ignore[misc]
            with pytest.raises(Undelivered, match=cause):
                do()
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(Undelivered, match="is no file"):
        File(tmp_path / "pipe").check()
    os.close(reading)


@pytest.mark.root
def test_root_writes_to_no_file_that_somebody_else_could_have_it_write_to(tmp_path: Path) -> None:
    """A link in the place of a folder above the file leads wherever who may write above that one wants."""
    theirs, out = tmp_path / "theirs", tmp_path / "theirs/logs/out.jsonl"
    (tmp_path / "target").mkdir()
    out.parent.mkdir(parents=True)
    (tmp_path / "direct").symlink_to(out.parent)
    (theirs / "link").symlink_to(tmp_path / "target")
    (tmp_path / "twice").symlink_to("theirs/link")
    paths = [out, tmp_path / "direct/out.jsonl", tmp_path / "twice/out.jsonl", tmp_path / "target/../twice/out.jsonl"]
    for path in paths:
        File(path).send([RECORD])
        path.unlink()
    for who, mode, user in (("user 12345", 0o755, 12345), ("everybody", 0o777, 0)):
        os.chown(theirs, user, 0)
        theirs.chmod(mode)
        for path in paths:
            for do in (File(path).check, lambda path=path: File(path).send([RECORD])):  # type: ignore[misc]
                with pytest.raises(Undelivered, match=f"{who} may write to '{theirs}', and could have root write"):
                    do()
                assert not path.exists()
    sticky = tmp_path / "sticky"
    sticky.mkdir()
    sticky.chmod(0o1777)
    with pytest.raises(Undelivered, match="everybody may write to"):
        File(sticky / "out.jsonl").check()
    (sticky / "roots").mkdir()
    File(sticky / "roots/out.jsonl").send([RECORD])
    (sticky / "roots/loop").symlink_to("loop")
    with pytest.raises(Undelivered, match="symbolic links"):
        File(sticky / "roots/loop/out.jsonl").check()


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_a_socket_gets_lines_and_one_that_has_closed_is_connected_to_anew(tmp_path: Path, kind: str) -> None:
    if kind == "unix":
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(tmp_path / "s"))
        address = f"unix:{tmp_path}/s"
    else:
        listening = socket.create_server(("127.0.0.1", 0))
        address = f"tcp:127.0.0.1:{listening.getsockname()[1]}"
    listening.listen()
    sink = Socket(address)
    for _ in range(2):
        sink.send([RECORD])
        one, _ = listening.accept()
        with one, one.makefile("rb") as file:
            assert json.loads(file.readline()) == RECORD
    listening.close()
    if kind == "unix":
        (tmp_path / "s").unlink()
    for do in (sink.check, lambda: sink.send([RECORD])):
        with pytest.raises(Undelivered, match="cannot send to"):
            do()


def test_a_socket_whose_reader_hangs_gives_up_in_time(tmp_path: Path) -> None:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "s"))
    listening.listen()
    sink = Socket(f"unix:{tmp_path}/s", timeout_s=0.2)
    with pytest.raises(Undelivered, match="no answer in time"):
        sink.send([RECORD] * 20_000)
    sink.close()
    listening.close()


class _Slow:
    """A connection whose reader takes ten bytes within the time-out, and then no more than ``most`` of all."""

    def __init__(self, most: int) -> None:
        self.taken, self._most, self.within = b"", most, list[float]()

    def settimeout(self, timeout_s: float) -> None:
        self.within.append(timeout_s)

    def send(self, data: memoryview) -> int:
        if len(self.taken) >= self._most:
            raise TimeoutError
        self.taken += bytes(data[:10])
        return len(data[:10])

    def sendall(self, data: bytes) -> None:
        self.taken += data[:10]
        raise TimeoutError

    def close(self) -> None: ...


def test_a_socket_whose_reader_is_slow_gets_all_and_the_time_is_that_of_its_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = _Slow(1 << 20)
    sink = Socket("tcp:10.0.0.1:5170", timeout_s=7)
    monkeypatch.setattr(sink, "_connected", lambda: slow)
    sink.send([RECORD, RECORD])
    assert lines(slow.taken) == [RECORD, RECORD] and slow.within == [1.0]
    sink.close()
    silent, sink = _Slow(20), Socket("tcp:10.0.0.1:5170", timeout_s=0.05)
    monkeypatch.setattr(sink, "_connected", lambda: silent)
    with pytest.raises(Undelivered, match="no answer in time"):
        sink.send([RECORD, RECORD])
    assert len(silent.taken) == 20


def fields(data: bytes) -> dict[str, str]:
    """Return what the journal reads of an entry."""
    found = dict[str, str]()
    while data:
        name, _, data = data.partition(b"\n")
        length = int.from_bytes(data[:8], "little")
        found[name.decode()], data = data[8 : 8 + length].decode(), data[9 + length :]
    return found


def test_the_journal_gets_no_field_of_what_is_not_known_of_a_request(tmp_path: Path) -> None:
    """A connection that ended before a request came has no status and took no time."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "journal"))
        said = {"client": "203.0.113.9", "method": None, "status": None, "bytes": 0, "ms": None}
        Journald(tmp_path / "journal").send([RECORD | {"request": said}])
        found = fields(journal.recv(1 << 16))
    assert {name for name in found if name.removeprefix("INSTAR_").lower() in said} == {"INSTAR_CLIENT", "INSTAR_BYTES"}
    assert (found["INSTAR_CLIENT"], found["INSTAR_BYTES"]) == ("203.0.113.9", "0")


def test_the_journal_gets_fields_that_no_message_can_forge(tmp_path: Path) -> None:
    journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    journal.bind(str(tmp_path / "journal"))
    sink = Journald(tmp_path / "journal")
    sink.check()
    sink.send([RECORD])
    found = fields(journal.recv(1 << 16))
    assert found == {
        "INSTAR_SERVICE": "web",
        "INSTAR_ENVIRONMENT": "dev",
        "INSTAR_RELEASE": "1",
        "INSTAR_INSTANCE": "web-dev-1-1",
        "INSTAR_STREAM": "stderr",
        "MESSAGE": RECORD["message"],
        "SYSLOG_IDENTIFIER": "web-dev-1-1",
        "INSTAR_TIME": RECORD["time"],
        "PRIORITY": "4",
    }
    journal.close()
    (tmp_path / "journal").unlink()
    with pytest.raises(Undelivered, match="cannot send to the journal at"):
        sink.check()


def test_a_journal_that_reads_nothing_gives_up_in_time(tmp_path: Path) -> None:
    journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    journal.bind(str(tmp_path / "journal"))
    done = threading.Event()

    def send() -> None:
        with pytest.raises(Undelivered, match="no answer in time"):
            Journald(tmp_path / "journal", timeout_s=0.2).send([RECORD] * 10_000)
        done.set()

    threading.Thread(target=send, daemon=True).start()
    assert done.wait(30)
    journal.close()


def test_one_place_is_chosen_and_named_without_what_may_be_secret() -> None:
    assert sink_of(ShipSettings()) is None
    assert words(ShipSettings(command=("ship", "--token", "sesame"))) == "command ship"
    assert isinstance(sink_of(ShipSettings(journald=True)), Journald)
