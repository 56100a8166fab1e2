"""The access log as files: what a line becomes, when the next file is begun, what is told of lines that are lost."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import select
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from instar.router import access_writer
from instar.router.access_writer import LOG, LOST, Log, Servers, Times, converted, write

REST = b'"method":"GET","host":"x","path":"\\/","protocol":"HTTP\\/1.1","status":200,"bytes":9,"ms":1}'


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    opened = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield opened
    os.close(opened)


def servers(folder: int, tmp_path: Path, text: str) -> Servers:
    (tmp_path / "haproxy.cfg").write_text(text)
    found = Servers(folder)
    found.look()
    return found


def test_a_line_says_which_instance_answered(folder: int, tmp_path: Path) -> None:
    known = servers(
        folder,
        tmp_path,
        "  server s1 10.1.0.2:8080 weight 100 # web-dev-7-1 .admin=9000\n"
        "  server s2 0.0.0.0:1 weight 0 disabled\n"
        "  server s3 0.0.0.0:1 weight 0 disabled # web-dev-8-1 .admin=10.1.0.3:9000 weight 5\n"
        "  server d3 [fd00::3]:9000 weight 5 # web-dev-8-1\n",
    )
    line = converted(b"1796027789442 10.1.0.2:8080 203.0.113.9 - {" + REST, known, Times())
    assert (
        line
        == b'2026-11-30T08:36:29.442+00:00 access F {"client":"203.0.113.9","instance":"web-dev-7-1",' + REST + b"\n"
    )
    by = {address: known.at(address) for address in (b"fd00::3:9000", b"10.9.9.9:1", b"-:-")}
    assert by == {b"fd00::3:9000": b'"web-dev-8-1"', b"10.9.9.9:1": b"null", b"-:-": b"null"}
    proxied = converted(b"1796027789442 -:- 127.0.0.1 2001:db8::1 {" + REST, known, Times())
    assert proxied is not None and b'"client":"2001:db8::1","instance":null' in proxied


def test_an_instance_that_is_gone_is_known_until_another_has_its_address(folder: int, tmp_path: Path) -> None:
    known = servers(folder, tmp_path, "  server s1 10.1.0.2:80 weight 1 # web-dev-7-1\n")
    (tmp_path / "haproxy.cfg").write_text("  server s1 0.0.0.0:1 weight 0 disabled\n")
    known.look()
    assert known.at(b"10.1.0.2:80") == b'"web-dev-7-1"'
    (tmp_path / "haproxy.cfg").write_text("  server s2 10.1.0.2:80 weight 100 # web-dev-8-1\n")
    known.look()
    assert known.at(b"10.1.0.2:80") == b'"web-dev-8-1"'


@pytest.mark.parametrize(
    "line",
    [
        b"Proxy public stopped (cumulated conns: FE: 438, BE: 0).",
        b"",
        b"1796027789442 -:- 127.0.0.1 - {" + REST[:-1],
        b"1796027789442 -:- 127.0.0.1 - {" + REST.replace(b"x", b"\x1b"),
        b"1796027789442 -:- 127.0.0.1 - {" + REST.replace(b"x", "é".encode()),
        b'1796027789442 -:- 127.0.0.1","a":" - {' + REST,
    ],
)
def test_what_is_no_request_is_no_line(folder: int, tmp_path: Path, line: bytes) -> None:
    assert converted(line, servers(folder, tmp_path, ""), Times()) is None


def lines(count: int, size: int = 100) -> list[bytes]:
    return [b"%0*d\n" % (size - 1, number) for number in range(count)]


def test_three_files_are_kept(folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_writer, "FULL_BYTES", 1_000)
    log = Log(folder)
    every = lines(45)
    for one in every:
        log.put([one])
    kept = b"".join((tmp_path / name).read_bytes() for name in (f"{LOG}.2", f"{LOG}.1", LOG))
    assert kept == b"".join(every[20:])
    assert sorted(path.name for path in tmp_path.iterdir()) == [LOG, f"{LOG}.1", f"{LOG}.2", LOST]
    assert (tmp_path / LOST).read_text() == f"{0:019d}\n"


def test_two_writers_have_one_log(folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_writer, "FULL_BYTES", 1_000)
    logs = [Log(folder), Log(folder)]
    every = lines(28)
    for number, one in enumerate(every):
        logs[number % 2].put([one])
    assert b"".join((tmp_path / name).read_bytes() for name in (f"{LOG}.2", f"{LOG}.1", LOG)) == b"".join(every)


def test_a_writer_that_stopped_while_it_began_the_next_file_makes_none_grow_for_ever(
    folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_writer, "FULL_BYTES", 1_000)
    stopped = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(stopped, fcntl.LOCK_EX)
    log = Log(folder)
    for one in lines(30):
        log.put([one])
    assert (tmp_path / LOG).stat().st_size == 2_000
    assert int((tmp_path / LOST).read_text()) == 10
    os.close(stopped)
    log.put(lines(1))
    why = rb"\(10 lines are missing here, since [0-9T:.+-]+: the log is full, and the next one could not be begun\)"
    assert re.search(why, (tmp_path / LOG).read_bytes())


def test_a_line_that_was_cut_is_lost_alone(folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full in the middle of a line: what follows begins a line of its own."""
    log, write_some = Log(folder), os.write
    room = [250]

    def full(file: int, data: memoryview) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write_some(file, data[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr(os, "write", full)
    log.put(lines(5))
    log.put(lines(2))
    monkeypatch.setattr(os, "write", write_some)
    log.put([b"new\n"])
    *before, cut, told, new, rest = (tmp_path / LOG).read_bytes().split(b"\n")
    assert (len(before), len(cut), new, rest) == (2, 50, b"new", b"")
    assert re.search(rb" instar F \(5 lines are missing here, since [0-9T:.+-]+: No space left on device\)$", told)
    assert int((tmp_path / LOST).read_text()) == 5


def test_it_ends_with_the_last_who_writes_and_says_where_one_before_it_was_killed(folder: int, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(b"1796027789442 -:- 127.0.0.1 - {" + REST + b"\n" + b"half a line")
    write(reading, folder, again=True)
    os.close(reading)
    said, line, rest = (tmp_path / LOG).read_bytes().split(b"\n")
    assert said.endswith(b" instar F (lines may be missing here: what writes them was killed)")
    assert line.endswith(REST) and rest == b""


LINE = b"1796027789442 -:- 127.0.0.1 - {" + REST + b"\n"


def flooded(count: int | None, size: int = 1 << 20) -> tuple[int, int, int]:
    """Return both ends of a pipe as HAProxy has one, and how many lines went into it: so many, or all that it takes."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, size)
    os.set_blocking(writing, False)
    went = 0
    with contextlib.suppress(BlockingIOError):
        while went != count:
            os.write(writing, LINE)
            went += 1
    return reading, writing, went


def test_a_flood_is_written_without_a_pause(folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause after each chunk caps what one client may send before lines are lost."""
    reading, writing, went = flooded(8_000)
    os.close(writing)
    pauses = list[float]()
    monkeypatch.setattr(access_writer, "time", SimpleNamespace(**{**vars(time), "sleep": pauses.append}))
    write(reading, folder, again=False)
    os.close(reading)
    assert len(LINE) * went > 10 * access_writer._CHUNK_BYTES
    assert (tmp_path / LOG).read_bytes().count(b"\n") == went
    assert len(pauses) <= 1


@pytest.mark.parametrize("size", [1 << 16, 1 << 20])
def test_a_pipe_that_was_full_is_told_once_and_so_is_its_end(
    folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    reading, writing, went = flooded(None, size)
    pipes = [writing]

    def end(servers: Servers) -> None:
        """Send one more line when all has been read, and no more."""
        if pipes and not select.select([reading], [], [], 0)[0]:
            os.write(writing, LINE)
            os.close(pipes.pop())

    monkeypatch.setattr(Servers, "look", end)
    write(reading, folder, again=False)
    os.close(reading)
    *found, _ = (tmp_path / LOG).read_bytes().split(b"\n")
    told = [(at, line.split(b" ", 3)[3]) for at, line in enumerate(found) if b" instar F " in line]
    assert told == [
        (0, b"(lines may be missing from here on: more came than could be written)"),
        (went + 2, b"(what comes from here on is written again)"),
    ]
