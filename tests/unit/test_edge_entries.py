"""What the edge does with each name: the lines of its map, and which clients must have a certificate."""

from __future__ import annotations

from dataclasses import replace

import pytest

from instar.errors import RouterError
from instar.model.definition import Headers
from instar.model.host_names import HostNames
from instar.router.edge import config, names
from instar.router.edge.names import Passed

SHOP, BLOG = "shop/production", "blog/production"
PLAN = config.EdgePlan(http=("127.0.0.1:80",), https=("127.0.0.1:443",))


def passed(slot: int, *https: str, client_ca: str | None = None) -> Passed:
    return Passed(slot=slot, names=HostNames(https=https, client_ca=client_ca))


def test_no_line_is_longer_than_haproxy_reads_as_one() -> None:
    many = {
        f"s{number}/dev": passed(number, f"{number}.a.test", client_ca="-----BEGIN CERTIFICATE-----\n" + "A" * 9_000)
        for number in range(1, 40)
    }
    text = names.render(many, ())
    assert max(map(len, text.split("\n"))) < 8_000
    comments = [line.startswith("# ") for line in text.splitlines()]
    assert comments.index(False) == sum(comments) > 80
    assert names.read(text) == many
    one_line = text.replace("\n# ", "")  # as it was written once
    assert names.read(one_line) == many
    for damaged in ("", "# environments {", "a.test/ https/to/e1/0\n"):
        with pytest.raises(RouterError, match="cannot read"):
            names.read(damaged)


def test_who_has_the_whole_of_a_name_says_which_clients_it_takes() -> None:
    both = {SHOP: passed(1, "a.test", client_ca="X"), BLOG: passed(2, "a.test/x", "b.test", client_ca="Y")}
    assert names.authorities(both) == {"a.test": "X", "b.test": "Y"}
    assert names.authorities({**both, SHOP: passed(1, "a.test")}) == {"b.test": "Y"}
    assert names.authorities({**both, SHOP: passed(1, "a.test/y")}) == {"a.test": "Y", "b.test": "Y"}
    entries = names.entries(both, ("a.test", "b.test"))
    assert entries["a.test/"] == "https/to/e1/0"
    assert entries["a.test/x/"] == "https/closed"  # its own clients would not be asked for
    follows = names.entries({**both, BLOG: passed(2, "a.test/x")}, ("a.test",))
    assert follows["a.test/x/"] == "https/to/e2/0"


def test_a_name_without_a_certificate_is_closed_where_clients_need_one() -> None:
    both = {SHOP: passed(1, "*.a.test"), BLOG: passed(2, "x.a.test", client_ca="X")}
    assert names.entries(both, ("*.a.test",))["x.a.test/"] == "https/closed"
    assert names.entries(both, ("*.a.test", "x.a.test"))["x.a.test/"] == "https/to/e2/0"
    assert names.entries(both, ())["*.a.test/"] == "https/to/e1/0"


def test_what_leaves_keeps_what_was_said_of_its_clients() -> None:
    now = names.settled(names.NONE, SHOP, HostNames(https=("a.test", "c.test"), client_ca="X"), ())
    now = names.settled(now, BLOG, HostNames(), ("a.test", "c.test"))
    for asked in (HostNames(https=("c.test",)), HostNames(http=("d.test",)), HostNames()):
        now = names.settled(now, SHOP, asked, ())
        assert names.authorities(now).get("a.test") in ("X", None)
        if "a.test/" in names.entries(now, ("a.test", "c.test")):
            assert names.authorities(now)["a.test"] == "X"
    assert "b.test" not in names.authorities(names.settled(now, BLOG, HostNames(https=("b.test",)), ()))


def test_who_proves_names_is_no_environments() -> None:
    found = names.entries({SHOP: passed(1, "a.test/x", "*.b.test")}, ())
    assert found == {
        "a.test/x/": "https/to/e1/0",
        "a.test/.well-known/acme-challenge/": "https/challenge",
        "*.b.test/": "https/to/e1/0",
    }


def test_a_client_may_be_silent_a_little_longer_than_any_router_lets_it() -> None:
    assert config.silent_ms(60_000, 0, 0) == config.LEAST_SILENT_MS == 70_000
    assert config.silent_ms(1_000, 600_000, 30_000) == 610_000
    assert config.silent_ms(86_400_000, 0, 0) == config.LONGEST_SILENT_MS
    text = config.render(replace(PLAN, silent_ms=610_000), confined=True)
    assert "  timeout client 610000ms\n" in text
    assert config.read_plan(text).silent_ms == 610_000
    with pytest.raises(RouterError, match="no client may be silent"):
        config.render(replace(PLAN, silent_ms=10_000), confined=True)


def test_there_is_room_for_certificates_whatever_heads_a_service_takes() -> None:
    small = PLAN.with_room(Headers(size_bytes=1_024, count=10), 1)
    assert small == PLAN
    large = PLAN.with_room(Headers(size_bytes=65_536, count=10), 90_000)
    assert large.headers == Headers(size_bytes=65_536, count=200)
    assert large.silent_ms == 90_000
