"""Requests through the machine's edge and a router behind it, beside nginx that does the same with TLS, all in front of
one nginx that answers by itself. wrk asks; both are unpacked from Debian's packages, not installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/integration")]

from edge_world import SHOP, EdgeWorld, certificate  # noqa: E402
from peer import unpack  # noqa: E402

from free_ports import free_port  # noqa: E402
from instar.model.environment import HostNames  # noqa: E402
from instar.model.release import EnvironmentId  # noqa: E402
from instar.providers.base import EdgeCertificate, Target  # noqa: E402

NAME = "localhost"  # wrk takes the name of the handshake from the address
ENVIRONMENTS, NAMES_EACH = 20, 5
_PACKAGES = ("wrk", "libluajit-5.1-2", "libluajit-5.1-common", "nginx")
_HEAD = """\
daemon off; worker_processes 2; error_log /dev/null; pid {folder}/{name}.pid; events {{worker_connections 4096;}}
http {{
access_log off; keepalive_requests 1000000;
client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;
scgi_temp_path {folder}/s;
"""
_ANSWER = 'server {{listen 127.0.0.1:{port} backlog=4096; location / {{return 200 "hello world hello world\\n";}}}}}}'
_PROXY = """\
upstream u {{server 127.0.0.1:{to}; keepalive 64;}}
server {{listen 127.0.0.1:{port} {tls} backlog=4096; {more}
location / {{proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection "";
proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;}}}}}}
"""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How long a request took: of all, by their number, and at the 99th percentile; and what it took of processors."""

    each_us: float
    slowest_ms: float
    cpu_us: float


class Bench:
    """``ways`` are what is asked: name → address and the processes that answer."""

    def __init__(self, tools: Path, folder: Path, stack: ExitStack) -> None:
        unpack(tools, _PACKAGES, "usr/bin/wrk")
        self._tools, self._folder, self._stack = tools / "root", folder, stack
        self.world = EdgeWorld(folder / "edge")
        stack.callback(self.world.provider.close, SHOP)
        made = certificate(folder, NAME)
        (folder / "chain").write_text(made.chain)
        (folder / "key").write_text(made.key)
        last, ports = free_port(), [free_port() for _ in range(3)]
        self._nginx("last", _ANSWER.format(port=last))
        one = self._proxy("one", ports[0], last, tls=True)
        behind = self._proxy("behind", ports[1], last, tls=False)
        front = self._proxy("front", ports[2], ports[1], tls=True)
        self._serve(made, last)
        router = [process.pid for process in self.world.router._proxy(SHOP).haproxies()]
        record = self.world.edge.files.record()
        assert record is not None
        host, port = self.world.address
        self.ways = {
            "edge": (f"https://{NAME}:{self.world.https}/", [record.haproxy.pid, *router]),
            "router": (f"http://{host}:{port}/", router),
            "nginx": (f"https://{NAME}:{ports[0]}/", one),
            "two nginx": (f"https://{NAME}:{ports[2]}/", [*front, *behind]),
        }

    def ask(self, way: str, seconds: int = 3) -> Asked:
        url, processes = self.ways[way]
        before = sum(map(_cpu_s, processes))
        argv = [
            str(self._tools / "usr/bin/wrk"),
            "-t1",
            "-c32",
            f"-d{seconds}s",
            "--latency",
            "-H",
            f"Host: {NAME}",
            url,
        ]
        library = next((self._tools / "usr/lib").glob("*-linux-gnu"))
        done = subprocess.run(argv, env={"LD_LIBRARY_PATH": str(library)}, capture_output=True, text=True, check=True)
        bad = re.search(r"(?:Non-2xx|Socket errors).*", done.stdout)
        if bad:
            raise RuntimeError(f"{way}: {bad[0]}")
        count = int(_found(r"(\d+) requests in", done.stdout)[0])
        rate = float(_found(r"Requests/sec:\s+([\d.]+)", done.stdout)[0])
        value, unit = _found(r"99%\s+([\d.]+)(us|ms|s)", done.stdout)
        slowest_ms = float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]
        return Asked(
            each_us=1e6 / rate,
            slowest_ms=slowest_ms,
            cpu_us=(sum(map(_cpu_s, processes)) - before) / count * 1e6,
        )

    def _serve(self, made: EdgeCertificate, port: int) -> None:
        self.world.edge.serve(made)
        listen = (":".join(map(str, self.world.address)),)
        plan = self.world.named(SHOP, HostNames(https=(NAME,)), listen=listen, health_path=None, keep_alive_ms=60_000)
        self.world.provider._ensure(plan)
        self.world.router.attach(SHOP, [Target(name="last", address="127.0.0.1", port=port)])
        self.world.router.route(SHOP, {"last": 100})

    def _proxy(self, name: str, port: int, to: int, *, tls: bool) -> list[int]:
        more = f"ssl_certificate {self._folder}/chain; ssl_certificate_key {self._folder}/key;" if tls else ""
        return self._nginx(name, _PROXY.format(port=port, to=to, tls="ssl" if tls else "", more=more))

    def _nginx(self, name: str, rest: str) -> list[int]:
        """Start one, and return its processes."""
        file = self._folder / f"{name}.conf"
        file.write_text(_HEAD.format(folder=self._folder, name=name) + rest)
        argv = [str(self._tools / "usr/sbin/nginx"), "-p", str(self._folder), "-c", str(file)]
        started = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
        self._stack.callback(started.wait)
        self._stack.callback(started.terminate)
        time.sleep(0.5)
        children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
        return [started.pid, *map(int, children)]


class Names:
    """An edge with a hundred names of twenty environments, a fifth of them with certificates of their own."""

    def __init__(self, folder: Path) -> None:
        self._world = EdgeWorld(folder)
        self._environments = [EnvironmentId(service=f"s{number}", name="dev") for number in range(ENVIRONMENTS)]
        began = time.perf_counter()
        self._ensure(0)
        self.first_ms = 1000 * (time.perf_counter() - began)
        for number in range(1, ENVIRONMENTS):
            self._ensure(number)
        made = certificate(folder, *(f"n0.s{number}.test" for number in range(ENVIRONMENTS)))
        self._world.edge.serve(made)

    def change_ms(self, number: int, name: str) -> float:
        """Return how long it takes until an environment has a name, be it another's until now."""
        began = time.perf_counter()
        self._ensure(number % ENVIRONMENTS, name)
        return 1000 * (time.perf_counter() - began)

    @property
    def memory_mb(self) -> float:
        """The edge's HAProxy and its holder, shared pages by their share."""
        record = self._world.edge.files.record()
        assert record is not None
        rollups = (Path(f"/proc/{one.pid}/smaps_rollup").read_text() for one in (record.haproxy, record.process))
        return sum(int(_found(r"(?m)^Pss:\s+(\d+)", text)[0]) for text in rollups) / 1024

    def _ensure(self, number: int, *more: str) -> None:
        names = tuple(f"n{each}.s{number}.test" for each in range(NAMES_EACH))
        self._world.edge.ensure(self._world.named(self._environments[number], HostNames(https=(*names, *more))))

    def close(self) -> None:
        for environment in self._environments:
            self._world.edge.remove(environment)


@contextmanager
def named(folder: Path) -> Iterator[Names]:
    folder.mkdir()
    made = Names(folder)
    try:
        yield made
    finally:
        made.close()


def _found(pattern: str, text: str) -> Sequence[str]:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"cannot find {pattern!r} in: {text}")
    return match.groups()


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
