"""Real servers, a real router and a load on it, for the router's tests. All of it on loopback addresses."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from accepting import Accepting

from free_ports import free_port
from instar.model.release import EnvironmentId
from instar.model.state import StateDirectory
from instar.providers.local.router import LocalRouter
from instar.providers.router_plan import RouterPlan
from instar.providers.router_state import Target

ENV = EnvironmentId(service="guestbook", name="dev")
_hosts = (f"127.{10 + os.getpid() % 200}.{number // 250}.{number % 250 + 1}" for number in itertools.count())


class Backend(Accepting):
    """A small server that answers with its name. ``/slow`` waits until ``release`` is set; ``/echo`` shows the request;
    ``/cut`` ends in the middle of its answer, ``/none`` before it. ``healthy`` False: its checks get 500; ``ill``: they
    get that; ``kind``: the type of its answers; ``failing`` True: other requests get 500, each after ``delay_s``."""

    def __init__(self, name: str, host: str | None = None) -> None:
        self.healthy = True
        self.ill = ""
        self.kind = ""
        self.failing = False
        self.delay_s = 0.0
        self.release = threading.Event()
        self.seen: Counter[str] = Counter()
        super().__init__(name, host or next(_hosts))

    def close(self) -> None:
        self.release.set()
        super().close()

    def answer(self, connection: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            part = connection.recv(65_536)
            if not part:
                return
            request += part
        path = request.split(b" ", 2)[1].decode()
        self.seen[path] += 1
        if path == "/slow":
            self.release.wait(30)
        if path == "/none":
            return
        if path == "/healthz" and self.ill:
            connection.sendall(self.ill.encode())
            return
        ill = not self.healthy if path == "/healthz" else self.failing
        if path != "/healthz":
            time.sleep(self.delay_s)
        status = "500 No" if ill else "200 OK"
        body = request if path == "/echo" else self.name.encode()
        kind = f"Content-Type: {self.kind}\r\n" if self.kind else ""
        head = f"HTTP/1.1 {status}\r\n{kind}Content-Length: {len(body) + (9 if path == '/cut' else 0)}\r\n\r\n"
        connection.sendall(head.encode() + body)


class Client:
    """One connection to the router, kept."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._connection: socket.socket | None = None

    def get(self, path: str = "/", *, keep: bool = True, headers: Mapping[str, str] = {}) -> tuple[int, bytes]:
        """Send one request. Raises OSError when it is not answered; a request is never sent twice."""
        connection = self._connection or socket.create_connection(self._address, timeout=20)
        self._connection = None
        try:
            how = "" if keep else "Connection: close\r\n"
            how += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{how}\r\n".encode())
            status, body, kept = _answer(connection)
        except BaseException:
            connection.close()
            raise
        if kept and keep:
            self._connection = connection
        else:
            connection.close()
        return status, body

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


class Load:
    """Clients that ask without a pause, half of them over kept connections, and write down what they got."""

    def __init__(self, address: tuple[str, int], clients: int = 6) -> None:
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(address, bool(number % 2)), daemon=True)
            for number in range(clients)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        self.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    @property
    def served(self) -> int:
        return self.answers.total()

    def wait(self, more: int) -> None:
        """Return when that many more requests were answered."""
        wanted = self.served + more
        until(lambda: self.served + len(self.failures) >= wanted)

    def _ask(self, address: tuple[str, int], keep: bool) -> None:
        client = Client(address)
        while not self._ended.is_set():
            try:
                status, body = client.get(keep=keep)
            except OSError as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                continue
            if status == 200:
                self.answers[body.decode()] += 1
            else:
                self.failures.append(f"status {status}")
        client.close()


class World:
    """A router of its own, and what is needed around it."""

    def __init__(self, home: Path) -> None:
        self.state = StateDirectory(home, home / "run")
        self.id = secrets.token_hex(3)
        self.router = LocalRouter(self.state, self.id)
        self.address = ("127.0.0.1", free_port())
        self.backends: list[Backend] = []

    def plan(self, **changes: object) -> RouterPlan:
        values: dict[str, object] = {
            "environment": ENV,
            "listen": (f"{self.address[0]}:{self.address[1]}",),
            "protocol": "http",
            "request_timeout_ms": 20_000,
            "tunnel_timeout_ms": 20_000,
            "health_path": "/healthz",
            "instances": 1,
        }
        return RouterPlan(**{**values, **changes})  # type: ignore[arg-type]

    def backend(self, name: str) -> Backend:
        made = Backend(name)
        self.backends.append(made)
        return made

    def start(self, *names: str, **changes: object) -> list[Backend]:
        """Start the router with a server for each name; the first has the traffic."""
        backends = [self.backend(name) for name in names]
        self.router.ensure(self.plan(**changes))
        self.router.attach(ENV, [one.target for one in backends])
        self.router.route(ENV, {names[0]: 100})
        return backends

    def serve(self, target: Target, **changes: object) -> None:
        """Have the router, with its one server there."""
        self.router.ensure(self.plan(**changes))
        self.send_to(target)

    def send_to(self, target: Target, environment: EnvironmentId = ENV) -> None:
        """Let a server have all the traffic."""
        self.router.attach(environment, [target])
        self.router.route(environment, {target.name: 100})

    def load(self, clients: int = 6) -> Load:
        return Load(self.address, clients)

    def client(self) -> Client:
        return Client(self.address)

    @property
    def directory(self) -> Path:
        return self.state.routers / ENV.service / ENV.name

    def processes(self) -> list[int]:
        """Return the pids of this world's router processes."""
        return self.haproxies() + self.holders()

    def haproxies(self) -> list[int]:
        return self._started_with(b"\0-db\0")

    def holders(self) -> list[int]:
        return self._started_with(b"/holder.py\0")

    def groups(self) -> Iterator[str]:
        """Yield the cgroups that carry the world's id."""
        return (folder for folder, _, _ in os.walk("/sys/fs/cgroup") if self.id in folder)

    def _started_with(self, word: bytes) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
                if word in line and os.fsencode(self.state.root) in line:
                    found.append(int(entry.name))
        return sorted(found)


@contextlib.contextmanager
def world(home: Path, kind: type[World] = World) -> Iterator[World]:
    made = kind(home)
    try:
        yield made
    finally:
        made.router.clear_orphans(lambda: ())
        for backend in made.backends:
            backend.close()
        assert made.processes() == []
        assert list(made.groups()) == []


def until(condition: Callable[[], object], within_s: float = 40) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not become so"
        time.sleep(0.005)


def _answer(connection: socket.socket) -> tuple[int, bytes, bool]:
    text = b""
    while b"\r\n\r\n" not in text:
        text += _more(connection)
    head, _, body = text.partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    while len(body) < int(headers.get("content-length", 0)):
        body += _more(connection)
    return int(lines[0].split()[1]), body, headers.get("connection") != "close"


def _more(connection: socket.socket) -> bytes:
    part = connection.recv(65_536)
    if not part:
        raise ConnectionError("the answer ended early")
    return part
