"""Ask one URL on this machine again and again, and tell how it was answered.

    scripts/load.py http://127.0.0.1:8080/ --seconds 10 --connections 8 --closing 4 --rate 500

Half of what can go wrong while traffic moves shows on connections that stay open, the other half on new ones: so
``--closing`` of the ``--connections`` are opened anew for every request. A request fails when it is refused, cut,
late, or answered outside of 200–399; nothing is tried twice. With ``https`` the certificate has to be one for
``--name`` that ``--ca`` vouches for. Ends after ``--seconds``, or earlier at SIGTERM or
SIGINT, and prints one JSON object:

    {"requests", "served", "failed", "reasons": {"503": 2}, "first_failures": [{"at_s", "at", "reason", "took_ms",
     "closes", "headers", "body"}], "seconds", "latency_ms": {"p50", "p90", "p99", "max"}, "longest_gap_ms",
     "tally": {VALUE: COUNT}}

A failure says when the request began, whether it was one of a connection that closes after it, and what the answer was
(a gateway says in its body why it answered itself). ``tally`` counts the values of the response header that
``--tally`` names. Only what is on this machine is asked: loopback addresses, and those behind a bridge that leads into
namespaces alone.
Exit status: 0 all were served, 1 some were not, 64 wrong usage.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import json
import signal
import ssl
import subprocess
import sys
import time
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

LONGEST_S = 6 * 3600
MOST_CONNECTIONS = 256
KEPT_FAILURES = 20
KEPT_BODY = 200  # bytes of a failed answer


class Failed(Exception):
    """A request was not served; its text is the reason. ``said``: headers and body, if it was answered."""

    def __init__(self, reason: str, **said: Any) -> None:
        super().__init__(reason)
        self.said = said


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to ask, how, and for how long."""

    host: str
    port: int
    path: str
    seconds: float
    connections: int
    closing: int
    rate: float  # requests a second in all; 0: as fast as it is answered
    timeout_s: float
    tally: str | None
    name: str | None  # what the server is called, where that is not its address
    tls: ssl.SSLContext | None

    def request(self, *, close: bool) -> bytes:
        end = "close" if close else "keep-alive"
        host = self.name or (f"[{self.host}]" if ":" in self.host else self.host)
        return f"GET {self.path} HTTP/1.1\r\nHost: {host}:{self.port}\r\nConnection: {end}\r\n\r\n".encode()


@dataclass
class Record:
    """What has happened so far."""

    started: float = field(default_factory=time.monotonic)
    latencies_ms: array[float] = field(default_factory=lambda: array("d"))
    reasons: Counter[str] = field(default_factory=Counter)
    first_failures: list[dict[str, Any]] = field(default_factory=list)
    tally: Counter[str] = field(default_factory=Counter)
    last_served: float | None = None
    longest_gap_s: float = 0.0

    def served(self, began: float, value: str | None) -> None:
        now = time.monotonic()
        if self.last_served is None:
            print("load: the first request was served", file=sys.stderr, flush=True)
        else:
            self.longest_gap_s = max(self.longest_gap_s, now - self.last_served)
        self.last_served = now
        self.latencies_ms.append((now - began) * 1000)
        if value is not None:
            self.tally[value] += 1

    def failed(self, began: float, failure: Failed, *, closes: bool) -> None:
        self.reasons[str(failure)] += 1
        if len(self.first_failures) < KEPT_FAILURES:
            took_s = time.monotonic() - began
            when = {"at_s": round(began - self.started, 3), "at": _clock(time.time() - took_s)}
            how = {"reason": str(failure), "took_ms": round(took_s * 1000, 1), "closes": closes}
            self.first_failures.append({**when, **how, **failure.said})

    def report(self) -> dict[str, Any]:
        ordered = sorted(self.latencies_ms)
        failed = self.reasons.total()
        return {
            "requests": len(ordered) + failed,
            "served": len(ordered),
            "failed": failed,
            "reasons": dict(sorted(self.reasons.items())),
            "first_failures": self.first_failures,
            "seconds": round(time.monotonic() - self.started, 3),
            "latency_ms": {name: percentile(ordered, part) for name, part in PERCENTILES.items()},
            "longest_gap_ms": round(self.longest_gap_s * 1000, 1),
            "tally": dict(sorted(self.tally.items())),
        }


def _clock(at: float) -> str:
    """Return a time as logs of others have it, in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


def percentile(ordered: list[float], part: float) -> float | None:
    """Return the value that ``part`` of the sorted ``ordered`` are not above; None when there are none."""
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(part * len(ordered)))], 2)


REASONS = {
    TimeoutError: "no answer in time",
    ConnectionRefusedError: "connection refused",
    ConnectionResetError: "connection reset",
    BrokenPipeError: "connection reset",
    asyncio.IncompleteReadError: "the answer was cut",
}


class Client:
    """One connection after another to one server, a request at a time."""

    def __init__(self, plan: Plan, *, close: bool) -> None:
        self._plan = plan
        self.closes = close
        self._request = plan.request(close=close)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self) -> str | None:
        """Send the request and read its answer; return the tallied header's value. Raises Failed."""
        try:
            async with asyncio.timeout(self._plan.timeout_s):
                return await self._exchange()
        except (Failed, OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            self.disconnect()
            raise Failed(self._reason(error), **getattr(error, "said", {})) from error

    def _reason(self, error: Exception) -> str:
        for kind, reason in REASONS.items():
            if isinstance(error, kind):
                return reason
        return str(error)

    def disconnect(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _exchange(self) -> str | None:
        reader, writer = self._streams = self._streams or await asyncio.open_connection(
            self._plan.host,
            self._plan.port,
            ssl=self._plan.tls,
            server_hostname=self._plan.name if self._plan.tls else None,
        )
        writer.write(self._request)
        head = await self._read_head(reader)
        status, headers = parse_head(head)
        body = await read_body(reader, status, headers)
        if self.closes or headers["connection"] == "close":
            self.disconnect()
        if not 200 <= status < 400:
            raise Failed(str(status), headers=headers, body=body[:KEPT_BODY].decode("latin-1"))
        return headers.get(self._plan.tally, "(none)") if self._plan.tally else None

    @staticmethod
    async def _read_head(reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            raise Failed("the answer was cut" if error.partial else "closed without an answer") from error


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Return the status and the headers, names in lower case, ``connection`` always among them.

    Raises ValueError when it isn't HTTP/1.x.
    """
    first, *rest = head.decode("latin-1").split("\r\n")
    version, status, *_ = first.split(" ", 2)
    if not version.startswith("HTTP/1."):
        raise ValueError("the answer is not HTTP")
    pairs = (line.split(":", 1) for line in rest if line)
    headers = {name.strip().lower(): value.strip() for name, value in pairs}
    headers["connection"] = headers.get("connection", "close" if version == "HTTP/1.0" else "keep-alive").lower()
    return int(status), headers


async def read_body(reader: asyncio.StreamReader, status: int, headers: dict[str, str]) -> bytes:
    """Read an answer's body to its end, and return it. Source: RFC 9112, section 6.3."""
    if status < 200 or status in (204, 304):
        return b""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        parts = []
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            parts.append((await reader.readexactly(size + 2))[:-2])
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
        return b"".join(parts)
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    return await reader.read()


async def work(client: Client, plan: Plan, record: Record, first_at: float, stop: asyncio.Event) -> None:
    """Ask until ``stop``; with a rate, at this worker's share of it, and never faster to make up for lost time."""
    interval = plan.connections / plan.rate if plan.rate else 0.0
    due = first_at
    while not stop.is_set():
        wait = due - time.monotonic()
        if wait > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), wait)
            if stop.is_set():
                break
        began = time.monotonic()
        due = max(began, due) + interval
        try:
            record.served(began, await client.ask())
        except Failed as failure:
            record.failed(began, failure, closes=client.closes)
            await asyncio.sleep(0.01)  # a refused connection costs nothing: do not count it a million times
    client.disconnect()


async def run(plan: Plan) -> dict[str, Any]:
    """Carry the plan out and return the report."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.call_later(plan.seconds, stop.set)
    record = Record()
    spread = 1 / plan.rate if plan.rate else 0.0
    clients = [Client(plan, close=index < plan.closing) for index in range(plan.connections)]
    await asyncio.gather(
        *(work(client, plan, record, record.started + index * spread, stop) for index, client in enumerate(clients))
    )
    return record.report()


class Running:
    """A load in a process of its own, which has had its first answer. ``stop`` ends it and returns its report."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def stop(self) -> dict[str, Any]:
        if self._process.poll() is not None:
            raise RuntimeError("the load had ended before it was stopped: what came after that was not loaded")
        self._process.send_signal(signal.SIGTERM)
        out, err = self._process.communicate(timeout=60)
        if not out:
            raise RuntimeError(f"the load generator failed: {err}")
        report: dict[str, Any] = json.loads(out)
        return report

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


@contextlib.contextmanager
def running(url: str, *options: str) -> Iterator[Running]:
    """Load ``url`` inside, with the command line's ``options``; waits until it is answered for the first time."""
    argv = [sys.executable, str(Path(__file__).resolve()), url, "--seconds", str(LONGEST_S), *options]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    load = Running(process)
    try:
        assert process.stderr is not None
        if not process.stderr.readline().startswith("load: the first"):
            raise RuntimeError(f"no request to {url} was served")
        yield load
    finally:
        load.kill()


def parse(arguments: list[str]) -> Plan:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("url", help="http://127.0.0.1:PORT/PATH, or https")
    parser.add_argument("--name", help="what the server is called, in Host and in the TLS handshake")
    parser.add_argument("--ca", metavar="FILE", help="who vouches for its certificate (default: the machine's)")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--closing", type=int, help="how many of them close after each request (default: half)")
    parser.add_argument("--rate", type=float, default=0, help="requests a second in all (default: as fast as it goes)")
    parser.add_argument("--timeout", type=float, default=10, help="seconds to wait for an answer")
    parser.add_argument("--tally", metavar="HEADER", help="count the values of this response header")
    options = parser.parse_args(arguments)
    parts = urlsplit(options.url)
    if parts.scheme not in ("http", "https") or not is_here(parts.hostname or "") or parts.port is None:
        parser.error("the URL must be http:// or https://, an address of this machine and a port")
    if not (0 < options.seconds <= LONGEST_S and 0 < options.connections <= MOST_CONNECTIONS):
        parser.error(f"at most {LONGEST_S} seconds and {MOST_CONNECTIONS} connections")
    return Plan(
        host=parts.hostname or "",
        port=parts.port,
        path=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        seconds=options.seconds,
        connections=options.connections,
        closing=options.connections // 2 if options.closing is None else options.closing,
        rate=options.rate,
        timeout_s=options.timeout,
        tally=options.tally.lower() if options.tally else None,
        name=options.name,
        tls=ssl.create_default_context(cafile=options.ca) if parts.scheme == "https" else None,
    )


def is_here(host: str) -> bool:
    """Say whether an address is on this machine, in a namespace of its own or not."""
    try:
        return ipaddress.ip_address(host).is_loopback or leads_into_namespaces(host)
    except ValueError:
        return False


def leads_into_namespaces(address: str) -> bool:
    """Say whether an address is reached by a bridge that has no link but those of namespaces."""
    routes = ask_ip("route", "get", address)
    links = ask_ip("-details", "link", "show", "master", routes[0].get("dev", "")) if routes else []
    return bool(links) and all(link.get("linkinfo", {}).get("info_kind") == "veth" for link in links)


def ask_ip(*words: str) -> list[dict[str, Any]]:
    asked = subprocess.run(["ip", "-json", *words], capture_output=True, text=True, check=False)
    return [found for found in json.loads(asked.stdout or "[]") if found] if asked.returncode == 0 else []


def main() -> int:
    try:
        plan = parse(sys.argv[1:])
    except SystemExit as ending:
        return 64 if ending.code else 0
    report = asyncio.run(run(plan))
    print(json.dumps(report, indent=2))
    return 1 if report["failed"] or not report["served"] else 0


if __name__ == "__main__":
    sys.exit(main())
