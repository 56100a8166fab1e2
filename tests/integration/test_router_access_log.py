"""Requests are written down by a real HAProxy under load, and whatever happens to the log holds none of them up."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from router_world import ENV, World, until, world

from instar.model.logged_request import read
from instar.providers.local.log_files import LocalLogFiles

pytestmark = pytest.mark.root

CLIENTS = 6  # of a load


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def access(here: World) -> LocalLogFiles:
    return LocalLogFiles(here.state, here.id)


def lost(here: World) -> int:
    return sum(access(here).requests_lost(ENV).values())


def written(here: World) -> list[dict[str, Any]]:
    lines = [line.split(" ", 2) for line in access(here).access_lines(ENV)]
    return [json.loads(text) for _, stream, text in lines if stream == "access" and text.endswith("}")]


def told(here: World) -> list[str]:
    return [line.split(" ", 2)[2] for line in access(here).access_lines(ENV) if line.split(" ")[1] == "instar"]


def writers(here: World) -> list[int]:
    return here._started_with(b"/access_writer.py\0")


def say(here: World, data: bytes) -> None:
    """Send whatever it is, and wait until the other end has no more to say."""
    with socket.create_connection(here.address, timeout=20) as connection, contextlib.suppress(OSError):
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass


def test_a_request_is_a_line_without_its_query_and_headers(here: World) -> None:
    here.start("web-dev-1-1", "web-dev-2-1", access_log=True)
    client = here.client()
    headers = {"Cookie": "session=sesame", "Authorization": "Bearer sesame", "Referer": "http://x/?q=sesame"}
    assert client.get("/cart;v=1?token=sesame", headers=headers)[0] == 200
    here.router.route(ENV, {"web-dev-2-1": 100})
    until(lambda: client.get("/late")[1] == b"web-dev-2-1")
    until(lambda: len(written(here)) > 1 and written(here)[-1]["instance"] == "web-dev-2-1")
    first = written(here)[0]
    taken_ms, size = first.pop("ms"), first.pop("bytes")
    assert first == {
        "client": "127.0.0.1",
        "instance": "web-dev-1-1",
        "method": "GET",
        "host": "x",
        "path": "/cart;v=1",
        "protocol": "HTTP/1.1",
        "status": 200,
    }
    assert 0 <= taken_ms < 20_000 and size > 11
    assert "sesame" not in here.directory.joinpath("access.log").read_text()
    assert here.directory.joinpath("access.log").stat().st_mode & 0o777 == 0o600


def test_whatever_a_client_sends_is_data(here: World) -> None:
    here.start("web-dev-1-1", access_log=True)
    forged = b'2026-01-01T00:00:00.000+00:00 access F {"client":"1.2.3.4"}'
    odd = [
        b'GET /"},{"path":"/forged"}\\ HTTP/1.1\r\nHost: "a\\b",x\r\n\r\n',
        b"GET /" + "é".encode() * 3_000 + b"\xff HTTP/1.1\r\nHost: " + "é".encode() * 3_000 + b"\r\n\r\n",
        b"GET /%0a%1b[31m HTTP/1.1\r\nHost: a\t b\r\n\r\n",
        b"GET /\x1b]0;x\x07 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
        forged + b"\r\n\r\n",
        b"\n" + forged + b"\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4 F {\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n",
        b"M" * 500 + b" / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://user:sesame@other/path HTTP/1.1\r\nHost: other\r\n\r\n",
        b"GET /" + b"/" * 4_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    ]
    for data in odd:
        say(here, data)
    say(here, b"GET /end HTTP/1.1\r\nHost: end\r\n\r\n")
    until(lambda: written(here)[-1:] and written(here)[-1]["path"] == "/end")
    found = written(here)
    raw = here.directory.joinpath("access.log").read_bytes()
    assert len(found) == len(odd) + 1 == raw.count(b"\n")
    assert all(32 <= one < 127 or one == 10 for one in raw), "ASCII, of which nothing steers a terminal"
    assert found[0]["path"] == '/"},{"path":"/forged"}\\' and found[0]["host"] == '"a\\b",x'
    assert all(len(one["path"]) <= 400 and len(one["host"]) <= 128 and len(one["method"]) <= 20 for one in found)
    assert [one["client"] for one in found].count("203.0.113.9") == 1
    assert not any(one["client"] == "1.2.3.4" for one in found)
    assert found[10]["path"] == "/path" and b"sesame" not in raw
    assert max(map(len, raw.splitlines())) < 4_096


def test_what_is_asked_of_all_of_a_server_and_what_is_no_request_are_told_apart(here: World) -> None:
    here.start("web-dev-1-1", access_log=True)
    for data in (b"OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n", b"nonsense\r\n\r\n"):
        say(here, data)
    until(lambda: len(written(here)) == 2)
    found = [read(str(ENV), json.dumps(one)) for one in written(here)]
    first, second = sorted((one for one in found if one is not None), key=lambda one: one.method, reverse=True)
    assert (first.method, first.host, first.path) == ("OPTIONS", "a.test", "*")
    assert " OPTIONS a.test* HTTP/1.1 " in first.text and " - - - 400 " in second.text


def test_what_is_asked_for_is_begun_and_ended_under_load(here: World) -> None:
    here.start("web-dev-1-1")
    with here.load() as load:
        assert not access(here).has_access_log(ENV)
        here.router.ensure(here.plan(access_log=True))
        until(lambda: access(here).has_access_log(ENV) and len(written(here)) > 100)
        here.router.ensure(here.plan())
        load.wait(200)
        until(lambda: not writers(here))
        count = len(written(here))
        load.wait(200)
    assert load.failures == []
    assert len(written(here)) == count
    assert "fd@${INSTAR_ACCESS}" not in (here.directory / "haproxy.cfg").read_text()


def test_a_router_that_is_replaced_goes_on_in_the_same_log(here: World) -> None:
    here.start("web-dev-1-1", access_log=True)
    with here.load() as load:
        for tunnel_ms in (21_000, 22_000, 23_000):
            here.router.ensure(here.plan(access_log=True, tunnel_timeout_ms=tunnel_ms))
            load.wait(300)
    assert load.failures == []
    until(lambda: len(written(here)) + lost(here) == load.served, within_s=10)
    assert {one["instance"] for one in written(here)} == {"web-dev-1-1"}
    until(lambda: len(writers(here)) == 1)


def test_a_stopped_writer_holds_no_request_up_and_what_is_lost_is_counted(here: World) -> None:
    here.start("web-dev-1-1", access_log=True)
    (writer,) = writers(here)
    os.kill(writer, signal.SIGSTOP)
    with here.load() as load:
        load.wait(9_000)
        until(lambda: lost(here) > 0)
        os.kill(writer, signal.SIGCONT)
        load.wait(500)
    assert load.failures == []
    until(lambda: len(written(here)) + lost(here) >= load.served)
    assert len(written(here)) + lost(here) == load.served


def test_a_killed_writer_holds_no_request_up_and_is_followed(here: World) -> None:
    here.start("web-dev-1-1", access_log=True)
    with here.load() as load:
        for _ in range(2):
            (writer,) = writers(here)
            os.kill(writer, signal.SIGKILL)
            until(lambda killed=writer: [one for one in writers(here) if one != killed])  # type: ignore[misc]
            load.wait(300)
    assert load.failures == []
    until(lambda: told(here).count("(lines may be missing here: what writes them was killed)") == 2)
    read_and_not_written = 2 * 65_536 // 150
    until(lambda: len(written(here)) + lost(here) >= load.served - read_and_not_written)
    assert len(written(here)) + lost(here) <= load.served


def test_a_haproxy_that_was_killed_goes_on_writing(here: World) -> None:
    here.start("web-dev-1-1", access_log=True)
    (writer,) = writers(here)
    os.kill(here.haproxies()[0], signal.SIGKILL)
    with here.load() as load:
        pass
    until(lambda: len(written(here)) + lost(here) >= load.served)
    assert writers(here) == [writer]


def test_a_killed_holder_costs_no_line(here: World) -> None:
    here.start("web-dev-1-1", access_log=True)
    with here.load() as load:
        os.kill(here.holders()[0], signal.SIGKILL)
        load.wait(200)
        here.router.ensure(here.plan(access_log=True))
        load.wait(200)
    assert load.failures == []
    until(lambda: len(written(here)) >= load.served - CLIENTS)
    assert len(written(here)) <= load.served and lost(here) == 0


@pytest.fixture
def small(tmp_path: Path) -> Iterator[World]:
    """A router on a disk of 4 MiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path)], check=True)
    try:
        with world(tmp_path) as made:
            yield made
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_full_disk_holds_no_request_up_and_what_is_lost_is_counted_and_told(small: World) -> None:
    small.start("web-dev-1-1", access_log=True)
    filler = small.state.root / "filler"
    with small.load() as load:
        began = datetime.now(UTC).replace(microsecond=0)
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4_096)):
                pass
        until(lambda: lost(small) > 500)
        filler.unlink()
        load.wait(300)
    assert load.failures == []
    until(lambda: len(written(small)) + lost(small) >= load.served)
    assert len(written(small)) + lost(small) == load.served
    (text,) = told(small)
    count = access(small).requests_lost(ENV)["writer"]
    since = text.partition(" since ")[2].partition(": ")[0]
    assert text == f"({count:,} lines are missing here, since {since}: No space left on device)"
    assert began <= datetime.fromisoformat(since) <= datetime.now(UTC)


def test_the_log_goes_with_the_router(here: World) -> None:
    here.start("web-dev-1-1", access_log=True)
    with here.load():
        pass
    here.router.remove(ENV)
    assert not here.directory.exists() and writers(here) == []


def test_a_request_that_a_retired_haproxy_held_is_written_down_once(here: World) -> None:
    plan = {"access_log": True, "wait_ms": 20_000}
    here.router.ensure(here.plan(**plan))
    answered: list[tuple[int, bytes]] = []
    waiting = threading.Thread(target=lambda: answered.append(here.client().get("/held")), daemon=True)
    waiting.start()
    until(lambda: here.router.counters(ENV).requests == 1)
    here.router.ensure(here.plan(tunnel_timeout_ms=21_000, **plan))
    here.send_to(here.backend("web-dev-1-1").target)
    waiting.join(30)
    assert answered == [(200, b"web-dev-1-1")]
    until(lambda: written(here))
    (line,) = written(here)
    assert (line["path"], line["instance"], line["status"]) == ("/held", "web-dev-1-1", 200)
