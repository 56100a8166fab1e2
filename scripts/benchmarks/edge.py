"""Requests through the machine's edge and a router behind it, and through a router alone, beside what people use for
the same (``proxies``), all in front of one nginx that answers by itself. wrk asks, over kept connections."""

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
from proxies import Proxies, Way  # noqa: E402

from instar.model.host_names import HostNames  # noqa: E402
from instar.model.release import EnvironmentId  # noqa: E402
from instar.providers.edge import EdgeCertificate  # noqa: E402
from instar.providers.router_state import Target  # noqa: E402

NAME = "localhost"  # wrk takes the name of the handshake from the address
ENVIRONMENTS, NAMES_EACH = 20, 5


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How long a request took: of all, by their number, and at the 99th percentile; and what it took of processors."""

    each_us: float
    slowest_ms: float
    cpu_us: float


class Bench:
    """``ways`` are what is asked, by name."""

    def __init__(self, tools: Path, folder: Path, stack: ExitStack) -> None:
        self._tools = tools / "root"
        self.world = EdgeWorld(folder / "edge")
        stack.callback(self.world.provider.close, SHOP)
        made = certificate(folder, NAME)
        (folder / "chain").write_text(made.chain)
        (folder / "key").write_text(made.key)
        peers = Proxies(tools, folder, NAME, stack)
        self._serve(made, peers.answering)
        router = [process.pid for process in self.world.router._proxy(SHOP).haproxies()]
        record = self.world.edge.files.record()
        assert record is not None
        host, port = self.world.address
        self.ways = {
            "edge": Way(url=f"https://{NAME}:{self.world.https}/", pids=[record.haproxy.pid, *router]),
            "router": Way(url=f"http://{host}:{port}/", pids=router),
            **peers.ways(),
        }

    def ask(self, way: str, seconds: int = 3) -> Asked:
        one = self.ways[way]
        before = sum(map(_cpu_s, one.pids))
        argv = [
            str(self._tools / "usr/bin/wrk"),
            "-t1",
            "-c32",
            f"-d{seconds}s",
            "--latency",
            "-H",
            f"Host: {NAME}",
            one.url,
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
            cpu_us=(sum(map(_cpu_s, one.pids)) - before) / count * 1e6,
        )

    def _serve(self, made: EdgeCertificate, port: int) -> None:
        self.world.edge.serve(made)
        listen = (":".join(map(str, self.world.address)),)
        plan = self.world.named(SHOP, HostNames(https=(NAME,)), listen=listen, health_path=None, keep_alive_ms=60_000)
        self.world.provider._ensure(plan)
        self.world.router.attach(SHOP, [Target(name="last", address="127.0.0.1", port=port)])
        self.world.router.route(SHOP, {"last": 100})


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
