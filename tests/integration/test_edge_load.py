"""Load through the edge over TLS, while all that can change does: no request fails."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from edge_world import BLOG, SHOP, EdgeWorld, certificate
from router_world import until

from instar.model.host_names import HostNames

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="routers are root's")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[EdgeWorld]:
    made = EdgeWorld(tmp_path)
    yield made
    made.end()


class Load:
    """Clients that ask for a name without a pause, half of them over kept connections."""

    def __init__(self, port: int, name: str, clients: int = 4) -> None:
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self._port, self._name = port, name
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(bool(number % 2),)) for number in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def wait(self, more: int = 40) -> None:
        wanted = self.answers.total() + more
        until(lambda: self.answers.total() + len(self.failures) >= wanted)

    def _ask(self, keep: bool) -> None:
        while not self._ended.is_set():
            try:
                with contextlib.closing(self._connected()) as connection:
                    self._use(connection, keep)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))

    def _use(self, connection: http.client.HTTPConnection, keep: bool) -> None:
        while not self._ended.is_set():
            connection.request("GET", "/", headers={"Host": self._name})
            answer = connection.getresponse()
            body = answer.read().decode()
            if answer.status == 200:
                self.answers[body] += 1
            else:
                self.failures.append(f"status {answer.status}")
            if not keep or connection.sock is None:
                return

    def _connected(self) -> http.client.HTTPConnection:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        plain = socket.create_connection(("127.0.0.1", self._port), timeout=20)
        connection.sock = context.wrap_socket(plain, server_hostname=self._name)
        connection.auto_open = 0
        return connection


def test_nothing_that_changes_costs_a_request(world: EdgeWorld, tmp_path: Path) -> None:
    world.edge.serve(certificate(tmp_path, "a.test"))
    world.open(SHOP, HostNames(https=("a.test",)))
    world.open(BLOG, HostNames(https=("b.test",)))
    with Load(world.https, "a.test") as load:
        load.wait()
        world.edge.serve(certificate(tmp_path, "a.test"))  # renewed
        load.wait()
        for number in range(3):  # moved there and back
            world.expose(BLOG, HostNames(https=("a.test", "b.test")), instances=1 + number)
            load.wait()
            world.expose(SHOP, HostNames(https=("a.test", f"c{number}.test")))
            load.wait()
        record = world.edge.files.record()
        assert record is not None
        os.kill(record.process.pid, signal.SIGKILL)  # the edge's holder
        until(lambda: world.edge.files.record() is None)
        load.wait()
        world.expose(SHOP, HostNames(https=("a.test",)))  # a new holder, and a new HAProxy
        load.wait()
        world.expose(SHOP, HostNames(https=("a.test",)), request_timeout_ms=9_000)  # a new router behind it
        load.wait()
        other = world.backend("new")
        world.router.attach(SHOP, [other.target])
        world.router.route(SHOP, {"new": 100})
        until(lambda: bool(load.answers["new"]))
    assert load.failures == []
    assert {"shop", "blog", "new"} <= set(load.answers)
