"""Each client has as many answers in a time as it may have, whoever else asks, and all others have theirs."""

from __future__ import annotations

import socket
import struct
import time
from collections import Counter
from pathlib import Path

import pytest
from edge_world import SHOP, EdgeWorld
from h2_peers import Caller, EchoServer
from router_world import ENV, Client, World

from instar.model.host_names import HostNames
from instar.model.requests import Rate, Requests

pytestmark = pytest.mark.root

LIMITED = Requests(rate=Rate(requests=20, within_ms=60_000))  # long enough to count in


def ask(address: tuple[str, int], count: int, *heads: str, before: bytes = b"", source: str = "") -> Counter[int]:
    """Return how many requests, each over a connection of its own, got which status."""
    found: Counter[int] = Counter()
    lines = "".join(f"{line}\r\n" for line in ("GET / HTTP/1.1", "Host: shop.test", "Connection: close", *heads, ""))
    for _ in range(count):
        with socket.create_connection(address, 20, (source, 0) if source else None) as one:
            one.sendall(before + lines.encode())
            found[int(one.recv(65_536).split(b" ", 2)[1])] += 1
    return found


def proxied(source: str) -> bytes:
    """Return the header of the PROXY protocol, version 2, of who asks from ``source``."""
    six = ":" in source
    family = socket.AF_INET6 if six else socket.AF_INET
    ends = socket.inet_pton(family, source) + socket.inet_pton(family, "::1" if six else "127.0.0.1")
    ends += struct.pack(">HH", 40_000, 80)
    return b"\r\n\r\n\0\r\nQUIT\n" + bytes([0x21, 0x21 if six else 0x11]) + struct.pack(">H", len(ends)) + ends


def test_each_client_has_its_own_count(here: World) -> None:
    here.start("a", requests=LIMITED)
    assert ask(here.address, 25) == {200: 20, 429: 5}
    assert ask(here.address, 25, source="127.0.0.2") == {200: 20, 429: 5}
    client = Client(here.address)
    for _ in range(3):  # kept connections are counted by the request too
        assert client.get() == (429, b"too many requests\n")
    with socket.create_connection(here.address, timeout=20) as one:
        one.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"\r\nretry-after: 60\r\n" in one.recv(65_536).lower()
    client.close()
    assert here.backends[0].seen["/"] == 40, "no instance hears of the others"
    assert here.router.counters(ENV).failed == 0 and here.router.inspect(ENV) == ()


def test_a_server_in_front_says_who_asks(here: World) -> None:
    """On this machine by a header, whose last address it has added; elsewhere by the PROXY protocol."""
    here.start("a", requests=LIMITED, accept_proxy=("127.0.0.9",))
    address = here.address
    assert ask(address, 25, "X-Forwarded-For: 192.0.2.1, 198.51.100.7") == {200: 20, 429: 5}
    assert ask(address, 1, "X-Forwarded-For: 198.51.100.7, 192.0.2.1") == {200: 1}
    assert ask(address, 1, "X-Forwarded-For: ::ffff:198.51.100.7") == {429: 1}, "the same, as IPv6 writes it"
    assert ask(address, 25, "X-Forwarded-For: 2001:db8:1:2::1") == {200: 20, 429: 5}
    assert ask(address, 1, "X-Forwarded-For: 2001:db8:1:2:ffff::1") == {429: 1}, "one network /64 is one client"
    assert ask(address, 1, "X-Forwarded-For: 2001:db8:1:3::1") == {200: 1}
    for source in ("203.0.113.1", "2001:db8:2::1", "::ffff:203.0.113.9"):
        assert ask(address, 25, before=proxied(source), source="127.0.0.9") == {200: 20, 429: 5}, source
    said = "X-Forwarded-For: 198.51.100.99"
    assert ask(address, 1, said, before=proxied("203.0.113.1"), source="127.0.0.9") == {429: 1}, "it lies"


def test_who_asks_too_often_has_as_many_answers_as_anybody(here: World) -> None:
    """Requests that are refused count for nothing, so who never stops gets what the rate allows."""
    here.start("a", requests=Requests(rate=Rate(requests=10, within_ms=1_000)))
    found: Counter[int] = Counter()
    began = time.monotonic()
    while time.monotonic() - began < 5:
        found += ask(here.address, 1)
    assert 40 <= found[200] <= 62 and found[429] > 100, found  # two threads may let one more each through


def test_calls_over_one_connection_are_counted_each(here: World) -> None:
    server = EchoServer()
    try:
        here.serve(server.target, protocol="h2", health_path=None, requests=LIMITED)
        with Caller(here.address) as caller:
            found = Counter(caller.call("/shop.Orders/Get", [b"a"]).headers[":status"] for _ in range(25))
    finally:
        server.close()
    assert found == {"200": 20, "429": 5}


def test_all_names_and_addresses_of_an_environment_count_together(tmp_path: Path) -> None:
    here = EdgeWorld(tmp_path)
    try:
        listen = (f"127.0.0.1:{here.address[1]}",)
        here.open(SHOP, HostNames(http=("shop.test", "www.shop.test")), requests=LIMITED, listen=listen)
        edge = ("127.0.0.1", here.http)
        assert ask(edge, 10) == {200: 10}
        assert Counter(here.get("www.shop.test").status for _ in range(5)) == {200: 5}
        assert ask(here.address, 10) == {200: 5, 429: 5}
        assert ask(edge, 1, "X-Forwarded-For: 192.0.2.1") == {429: 1}, "through the edge, nobody says who he is"
        assert ask(edge, 1, source="127.0.0.3") == {200: 1}
        assert here.router.inspect(SHOP) == ()
    finally:
        here.end()


def test_a_rate_comes_and_goes_without_losing_a_request(here: World) -> None:
    here.start("a")
    with here.load() as load:
        here.router.ensure(here.plan(requests=Requests(rate=Rate(requests=1_000_000))))
        load.wait(100)
        here.router.ensure(here.plan())
        load.wait(100)
    assert load.failures == []
