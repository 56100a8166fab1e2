"""Deploys and rollbacks, one after the other, under every kind of load: nothing fails.

Keep-alive and closing connections from ``scripts/load.py``; here, beside them, uploads that take their time and
WebSockets that stay open while the traffic moves.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import load
import pytest
from project import Project

from free_ports import free_port

pytestmark = [pytest.mark.root, pytest.mark.thorough]

SERVER = """\
import asyncio, os

VERSION = open("/srv/version").read().strip()
ACCEPTED = b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
ACCEPTED += b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\\r\\n\\r\\n"


async def serve(reader, writer):
    try:
        while head := await reader.readuntil(b"\\r\\n\\r\\n"):
            lines = head.decode("latin-1").split("\\r\\n")
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            if fields.get("upgrade", "").lower() == "websocket":
                writer.write(ACCEPTED)
                while data := await reader.read(1024):
                    writer.write(data)
                    await writer.drain()
                return
            taken = len(await reader.readexactly(int(fields.get("content-length", 0))))
            body = f"version {VERSION} took {taken}\\n".encode()
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (len(body), body))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "0.0.0.0", int(os.environ["PORT"]))
    await server.serve_forever()


asyncio.run(main())
"""
ASK_TO_TALK = (
    b"GET /talk HTTP/1.1\r\nHost: shop.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
POST = b"POST /upload HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n"
UPLOAD_S, PIECES = 0.6, 10
TALK_S, SAYS_EACH_S = 0.8, 0.05


NAME = "shop.test"


@dataclass(frozen=True, kw_only=True)
class Door:
    """How clients come to the service: at an address, or by its name over TLS, for which ``ca`` vouches."""

    port: int
    ca: Path | None = None

    @contextlib.contextmanager
    def connection(self) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as plain:
            if self.ca is None:
                yield plain
                return
            context = ssl.create_default_context(cafile=str(self.ca))
            with context.wrap_socket(plain, server_hostname=NAME) as secure:
                yield secure

    def load(self) -> tuple[str, ...]:
        """Return the arguments of ``load.running``."""
        if self.ca is None:
            return (f"http://127.0.0.1:{self.port}/",)
        return (f"https://127.0.0.1:{self.port}/", "--name", NAME, "--ca", str(self.ca))


@dataclass
class Clients:
    """Threads that do one thing again and again until they are stopped; ``failures`` has what went wrong."""

    door: Door
    done: int = 0
    failures: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def running(self, *jobs: Callable[[], None]) -> Iterator[None]:
        threads = [threading.Thread(target=self._again, args=(job,), daemon=True) for job in jobs]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(timeout=30)

    def upload(self) -> None:
        with self.door.connection() as connection:
            connection.sendall(
                b"POST /upload HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n"
            )
            for _ in range(PIECES):
                connection.sendall(b"x" * (1000 // PIECES))
                time.sleep(UPLOAD_S / PIECES)  # that it is slow is the point
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
        assert b" 200 " in answer and b"took 1000" in answer, answer

    def talk(self) -> None:
        with self.door.connection() as connection:
            connection.sendall(ASK_TO_TALK)
            head = connection.recv(4096)
            assert b" 101 " in head, head
            for number in range(int(TALK_S / SAYS_EACH_S)):
                word = f"word {number}".encode()
                connection.sendall(word)
                heard = connection.recv(4096)
                assert heard == word, f"{heard!r} instead of {word!r}"
                time.sleep(SAYS_EACH_S)  # that it lasts is the point

    def _again(self, job: Callable[[], None]) -> None:
        while not self._stop.is_set():
            try:
                job()
            except (OSError, AssertionError) as error:
                with self._guard:
                    self.failures.append(f"{job.__name__}: {error}")
            with self._guard:
                self.done += 1


def many_rounds(project: Project, rounds: int, door: Door) -> tuple[int, int, list[str]]:
    """Deploy and roll back in turn, so many times in all; return requests, how many failed, and other failures."""
    clients = Clients(door)
    with (
        clients.running(*[clients.upload] * 4, *[clients.talk] * 4),
        load.running(*door.load(), "--rate", "150", "--connections", "8") as traffic,
    ):
        for number in range(rounds):
            there_or_back(project, number)
        report = traffic.stop()
    assert clients.done > rounds / 4, "uploads and talks went on meanwhile"
    return report["requests"] + clients.done, report["failed"], clients.failures


def by_address(project: Project) -> Door:
    deploy_server(project)
    return Door(port=project.ports["dev"])


def by_name(project: Project) -> Door:
    """Deploy the service with a name of https, and a certificate of the machine's own authority."""
    http, https = free_port(), free_port()
    machine = project.home / "config.yaml"
    machine.write_text(f"edge: {{http: '127.0.0.1:{http}', https: '127.0.0.1:{https}'}}\n")
    machine.chmod(0o600)
    project.edit(f"listen: 127.0.0.1:{project.ports['dev']}", f"listen: {{https: {NAME}}}\n    tls: internal")
    deploy_server(project)
    ca = project.home / "ca.pem"
    ca.write_text(project.instar("certificates", "--ca").out)
    return Door(port=https, ca=ca)


def deploy_server(project: Project) -> None:
    project.edit("packages: [busybox-static]", "packages: [python3-minimal, libpython3-stdlib]")
    project.edit("command: [/srv/serve]", "command: [python3, /srv/server.py]")
    project.edit("{path: /cgi-bin/health, ", "{path: /, ")
    project.edit("config: {GREETING: hello}", "keep: {hot: 1, releases: 3}\n    config: {GREETING: hello}")
    (project.folder / "app/server.py").write_text(SERVER)
    (project.folder / "instar.lock").unlink()
    project.instar("deploy", "dev", timeout_s=300)


def there_or_back(project: Project, number: int) -> None:
    if number % 2:
        assert project.json("rollback", "dev")["outcome"] == "done"
    else:
        project.set_version(str(number + 2))
        assert project.json("deploy", "dev")["outcome"] == "done"


WAYS = pytest.mark.parametrize("way", [by_address, by_name], ids=lambda way: way.__name__)


@WAYS
def test_a_few_deploys_under_all_kinds_of_load(project: Project, way: Callable[[Project], Door]) -> None:
    requests, failed, failures = many_rounds(project, 3, way(project))
    assert requests > 50 and failed == 0 and failures == []


@pytest.mark.long
@WAYS
def test_a_thousand_deploys_and_rollbacks_under_all_kinds_of_load(
    project: Project, way: Callable[[Project], Door]
) -> None:
    rounds = int(os.environ.get("INSTAR_LOAD_ROUNDS", "1000"))
    door = way(project)
    began = time.monotonic()
    requests, failed, failures = many_rounds(project, rounds, door)
    print(f"{rounds} deploys and rollbacks, {requests} requests, {failed} failed, {time.monotonic() - began:.0f} s")
    assert failed == 0 and failures == []
