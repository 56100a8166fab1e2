"""The router's file: nothing gets into it that was not allowed, and what was written is read again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from instar.errors import RouterError
from instar.model.definition import Headers
from instar.model.requests import Compression, Rate, Requests
from instar.router.address import Address, parse
from instar.router.config import frame, read_plan, read_slots, refilled, render, scripts
from instar.router.plan import FORM, FileDoor, RouterFilePlan
from instar.router.slots import Server, Slots, backend, padded

PLAN = RouterFilePlan(
    listen=("127.0.0.1:8080", "[::1]:8080"),
    protocol="http",
    request_timeout_ms=60_000,
    tunnel_timeout_ms=3_600_000,
    health_path="/healthz",
    instances=1,
)
FILES = Path(__file__).parent / "router_files"  # as the Instar of each form wrote them
BAD_PATHS = ["healthz", "/a b", "/a\n  server evil 6.6.6.6:80", "/a#b", "/${HOME}", '/"', "/'", "/\\", "/é", "/" * 1025]
BAD_ADDRESSES = (
    *("127.0.0.1:80\n  bind *:81", "example.org:80", "127.0.0.1", ":80", "::1:80", "[127.0.0.1]:80"),
    *("127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:٨٠", "[fe80::1%eth0]:80", "fd@7"),
)
HELD: Slots = (
    Server(name="guestbook-dev-7-1", address=Address("10.1.0.2", 8080), weight=100),
    None,
    Server(name="guestbook-dev-6-1", address=Address("fd00::2", 8080)),
)


def test_what_was_written_is_read() -> None:
    for plan in (PLAN, replace(PLAN, protocol="tcp", health_path=None)):
        for held in (HELD, (), padded(HELD, 16)):
            text = render(plan, held, confined=True)
            assert read_plan(text) == plan
            assert read_slots(text) == held


def test_the_frame_is_what_haproxy_must_be_started_anew_for() -> None:
    text = render(PLAN, HELD, confined=True)
    same = [
        render(PLAN, (None, *HELD[1:]), confined=True),
        render(replace(PLAN, instances=2), HELD, confined=True),
    ]
    other = [
        render(PLAN, (*HELD, None), confined=True),
        render(PLAN, HELD, confined=False),
        *(
            render(replace(PLAN, **change), HELD, confined=True)
            for change in (
                {"listen": ("127.0.0.1:8080",)},
                {"listen": ("127.0.0.1:8081", "[::1]:8080")},
                {"protocol": "tcp"},
                {"request_timeout_ms": 1},
                {"tunnel_timeout_ms": 1},
                {"health_path": "/other"},
                {"health_path": None},
            )
        ),
    ]
    assert {frame(one) for one in same} == {frame(text)}
    assert frame(text) not in {frame(one) for one in other}


@pytest.mark.parametrize("file", sorted(FILES.glob("form-*.cfg")), ids=lambda file: file.stem)
def test_what_an_earlier_instar_wrote_is_written_the_same_for_ever(file: Path) -> None:
    text = file.read_text()
    plan = read_plan(text)
    assert f"form-{plan.form}-" in file.name
    confined = "  chroot /var/lib/haproxy\n" in text
    assert render(plan, read_slots(text), confined=confined) == text
    other = replace(plan, form=1 if plan.form > 1 else FORM)
    assert frame(text) != frame(render(other, read_slots(text), confined=confined))


def test_a_file_of_a_newer_instar_is_refused() -> None:
    with pytest.raises(RouterError, match="a newer Instar wrote it"):
        render(replace(PLAN, form=FORM + 1), (), confined=True)


def test_requests_wait_only_where_that_is_asked_for() -> None:
    new = replace(PLAN, form=FORM)
    assert "lua" not in render(new, HELD, confined=True)
    for protocol, where in (("http", "http-request"), ("tcp", "tcp-request content")):
        waits = replace(new, protocol=protocol, health_path=None, wait_ms=30_000)
        text = render(waits, HELD, confined=True)
        unless = " !maintenance" if protocol == "http" else ""
        assert f"  {where} lua.wait 30000 if {{ nbsrv(instances) lt 1 }}{unless}\n" in text
        assert "  server again 127.0.0.1:8080 source 127.0.0.1\n" in text
        assert (read_plan(text), read_slots(text)) == (waits, HELD)
    everywhere = replace(new, listen=("[::]:80",), wait_ms=1, accept_proxy=("::/0",))
    assert "  server again [::1]:80 source ::1 send-proxy-v2\n" in render(everywhere, HELD, confined=True)


def test_bodies_are_counted_at_every_door_where_that_is_asked_for() -> None:
    new = replace(PLAN, form=FORM, door=True, preview="127.0.0.1:8081")
    limited = replace(new, requests=Requests(largest_body_bytes=5_000))
    text = render(limited, HELD, confined=True)
    assert (read_plan(text), read_slots(text)) == (limited, HELD)
    assert text.count("  filter lua.body 5000 2147483647\n") == text.count(" gt 5000 }\n") == 3
    plain = render(new, HELD, confined=True)
    assert "body" not in plain and frame(plain) != frame(text)
    assert frame(render(replace(limited, requests=Requests()), HELD, confined=True)) == frame(plain)


FURTHER = FileDoor(
    key=".admin",
    listen=(),
    protocol="http",
    request_timeout_ms=60_000,
    tunnel_timeout_ms=3_600_000,
    sites=("a.s.example",),
)


def _by_name(plan: RouterFilePlan) -> list[str]:
    text = render(plan, HELD, confined=True)
    return text.partition("\nfrontend door\n")[2].partition("\nbackend ")[0].splitlines()


def test_names_of_a_further_port_never_lead_to_the_first_which_has_none() -> None:
    for sites in ((), ("s.example",)):
        plan = replace(PLAN, form=FORM, door=True, sites=sites, doors=(FURTHER,))
        (marked,) = (line for line in _by_name(plan) if "beg a.s.example/" in line)
        assert marked.startswith("  http-request set-var(txn.door) str(instances:.admin) if ")
        assert "  use_backend instances:.admin if { var(txn.door) -m str instances:.admin }" in _by_name(plan)
        (chosen,) = (line for line in _by_name(replace(plan, form=6)) if "beg a.s.example/" in line)
        assert chosen.split()[:2] == ["use_backend", backend(".admin")]


def test_what_waits_or_asks_for_a_release_is_led_by_its_own_door() -> None:
    further = replace(FURTHER, listen=("127.0.0.1:9",), wait_ms=7_000)
    plan = replace(PLAN, form=FORM, door=True, sites=("s.example",), doors=(further,), preview="header", wait_ms=5_000)
    here = "{ var(txn.door) -m str instances:.admin }"
    held = "lua.wait_for 7000 instances:.admin if { nbsrv(instances:.admin) lt 1 }"
    asked = "{ req.fhdr(X-Instar-Release) -m found }"
    assert [line.strip() for line in _by_name(plan) if here in line] == [
        f"http-request {held} !{asked} !maintenance {here}",
        f"use_backend previewed:.admin if {asked} {here}",
        f"use_backend again:.admin if {{ var(txn.again) -m bool }} {here}",
        f"use_backend instances:.admin if {here}",
    ]
    text = render(plan, HELD, confined=True)
    assert "backend again:.admin\n  timeout server 67000ms\n  server again 127.0.0.1:9 source 127.0.0.1\n" in text
    edge = replace(plan, doors=(replace(further, listen=()),))
    assert 'backend again:.admin\n  timeout server 67000ms\n  server again "unix@' in render(edge, HELD, confined=True)
    assert (read_plan(text), read_slots(text)) == (plan, HELD)
    assert "wait_for" in scripts(plan)["wait.lua"]
    assert "wait_for" not in scripts(replace(plan, doors=(FURTHER,)))["wait.lua"]


def test_requests_are_logged_by_each_frontend_of_http_before_they_are_changed_or_refused() -> None:
    web = FileDoor(
        key=".web", listen=("127.0.0.1:8090",), protocol="http", request_timeout_ms=1_000, tunnel_timeout_ms=1_000
    )
    new = replace(PLAN, form=FORM, door=True, inside=("127.0.0.9:1",), preview="127.0.0.1:8099", wait_ms=1_000)
    limited = replace(new, requests=Requests(rate=Rate(requests=7, within_ms=1_000)))
    plain, logged = (
        render(
            replace(
                limited, access_log=on, doors=(web, replace(web, key=".db", protocol="tcp", listen=("127.0.0.1:8091",)))
            ),
            (),
            confined=True,
        )
        for on in (False, True)
    )
    assert "log" not in plain.partition("\n")[2].replace("log_", "")
    frontends = [section.partition("\nbackend ")[0] for section in logged.split("\nfrontend ")[1:]]
    each = {section.partition("\n")[0]: section for section in frontends}
    for name, section in each.items():
        assert section.count('  log "fd@${INSTAR_ACCESS}" ') == (name != "public:.db"), name
        for after in ("track-sc1", "del-header"):
            assert after not in section or section.index("set-var(txn.log_path)") < section.index(after)
    assert "silent if { var(txn.again) -m bool }" in each["public"], "it is logged where it comes to"
    assert frame(plain) != frame(logged)


def test_limits_are_in_the_file_only_where_they_are_asked_for() -> None:
    new = replace(PLAN, form=FORM, door=True, preview="header")
    requests = Requests(body_within_ms=5_000, rate=Rate(requests=7, within_ms=10_500))
    limited = replace(new, requests=requests, compression=Compression(types=("text/html",)), stream_timeout_ms=10**8)
    text = render(limited, HELD, confined=True)
    assert (read_plan(text), read_slots(text)) == (limited, HELD)
    public = text.partition("frontend public\n")[2].partition("\nfrontend door\n")[0]
    assert public.index("track-sc1") < public.index("wait-for-body") < public.index("del-header"), (
        "before it is changed"
    )
    assert text.count(" Retry-After 11 ") == text.count("wait-for-body time 5000ms\n") == 2, "at both doors"
    assert text.count("  compression algo gzip\n") == text.count(" set-timeout server 100000000ms ") == 2, (
        "and previews"
    )
    assert "  timeout client 100000000ms\n" in text and "  timeout server 60000ms\n" in text
    assert "  hard-stop-after 100000000ms\n" in text
    plain = render(new, HELD, confined=True)
    assert not any(word in plain for word in ("sc1", "body", "compression", "set-timeout", "clients"))


def test_connections_are_kept_only_where_that_is_asked_for() -> None:
    plain = render(replace(PLAN, form=FORM, preview="header"), HELD, confined=True)
    assert "  option http-server-close\n" in plain and not any(word in plain for word in ("http-reuse", "sni", "pool"))
    kept = replace(PLAN, form=FORM, preview="header", keep_alive_ms=5_000)
    text = render(kept, HELD, confined=True)
    assert (read_plan(text), read_slots(text)) == (kept, HELD)
    defaults, backend = text.partition("\nfrontend ")[0], text.partition("backend instances\n")[2]
    assert "  option http-keep-alive\n" in defaults
    assert "  http-reuse always\n" in backend and " sni date(0,ms),div(2500) " in backend
    assert text.count("http-reuse") == text.count(" sni ") == text.count("http-server-close") == 1, "not of previews"


def test_a_service_of_http_2_is_spoken_to_in_it() -> None:
    for keep_alive_ms in (0, 5_000):
        plan = replace(PLAN, form=FORM, protocol="h2", health_path=None, preview="header", keep_alive_ms=keep_alive_ms)
        text = render(plan, HELD, confined=True)
        assert (read_plan(text), read_slots(text)) == (plan, HELD)
        assert "  mode http\n" in text and text.count(" proto h2 ") == 2
        assert text.count("  http-reuse never\n") == (1 if keep_alive_ms else 2)


def test_other_servers_leave_the_rest_of_a_file_as_it_was() -> None:
    older = render(PLAN, HELD, confined=True).replace("  balance roundrobin\n", "")
    other = (None, *HELD[:2])
    assert read_slots(refilled(older, other)) == other
    assert read_plan(refilled(older, other)) == PLAN
    assert frame(refilled(older, other)) == frame(older) != frame(render(PLAN, other, confined=True))
    assert refilled(render(PLAN, HELD, confined=True), other) == render(PLAN, other, confined=True)


def test_a_socket_that_a_wider_one_covers_is_kept_open() -> None:
    wide = replace(PLAN, listen=("0.0.0.0:8080",))
    assert wide.after(PLAN).also == ("127.0.0.1:8080",)
    assert wide.after(wide.after(PLAN)).also == ("127.0.0.1:8080",)
    assert PLAN.after(wide.after(PLAN)) == PLAN
    assert replace(wide, listen=("0.0.0.0:8081",)).after(PLAN).also == ()
    assert replace(wide, listen=("[::]:8080",)).after(PLAN).also == ("[::1]:8080",)
    text = render(wide.after(PLAN), HELD, confined=True)
    assert read_plan(text) == wide.after(PLAN)
    assert frame(text) != frame(render(wide, HELD, confined=True))


@pytest.mark.parametrize(
    "change",
    [{"health_path": path} for path in BAD_PATHS]
    + [{"listen": (text,)} for text in BAD_ADDRESSES]
    + [{"listen": ()}, {"listen": ("127.0.0.1:80", "127.0.0.1:80")}]
    + [{"protocol": "http\n"}, {"request_timeout_ms": 0}, {"tunnel_timeout_ms": 2**31}]
    + [{"health_host": host} for host in ("", "a b", "a\n", "a\r\nX: y", 'a"', "a/b", "é", "a" * 300)]
    + [{"headers": Headers(size_bytes=size)} for size in (0, -1, 1 << 21)]
    + [{"headers": Headers(count=count)} for count in (0, 4_001)]
    + [{"keep_alive_ms": kept} for kept in (-1, 1, 999, 2**31)]
    + [{"requests": Requests(largest_body_bytes=size)} for size in (0, -1, (1 << 50) + 1)]
    + [{"requests": Requests(body_within_ms=ms)} for ms in (0, -1, 2**31)]
    + [
        {"requests": Requests(rate=Rate(requests=n, within_ms=ms))}
        for n, ms in ((0, 1), (10**7, 1), (1, 0), (1, 10**9))
    ]
    + [{"compression": Compression(types=(text,))} for text in ("", "html", "a/b c", "a/b\n", "A/b", "a/b;c", "é/a")]
    + [{"stream_timeout_ms": ms} for ms in (-1, 2**31)]
    + [
        {**one, "protocol": "tcp", "health_path": None}
        for one in (
            {"requests": Requests(largest_body_bytes=1024)},
            {"requests": Requests(rate=Rate(requests=1))},
            {"compression": Compression()},
            {"stream_timeout_ms": 1_000},
        )
    ]
    + [{"wait_ms": -1}, {"wait_ms": 2**31}]
    + [{"accept_proxy": (text,)} for text in ("", "example.org", "10.0.0.1/8", "10.0.0.0/8\n", "::1 10.0.0.1", "+f x")],
)
def test_a_plan_that_may_not_stand_in_the_file_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(RouterError):
        render(replace(PLAN, form=FORM, **change), (), confined=True)


@pytest.mark.parametrize(
    ("name", "host", "port"),
    [
        ("a b", "10.0.0.1", 80),
        ("a\n", "10.0.0.1", 80),
        ("", "10.0.0.1", 80),
        ("a#", "10.0.0.1", 80),
        ("é", "10.0.0.1", 80),
        ("a", "10.0.0.1 check", 80),
        ("a", "example.org", 80),
        ("a", "10.0.0.1", 0),
        ("a", "10.0.0.1", 65_536),
        ("a", "fe80::1%eth0", 80),
    ],
)
def test_a_server_that_may_not_stand_in_the_file_is_refused(name: str, host: str, port: int) -> None:
    with pytest.raises(RouterError):
        Server.of(name, host, port)
    with pytest.raises(RouterError):
        render(PLAN, (Server(name=name, address=Address(host, port)),), confined=True)


@pytest.mark.parametrize("damage", [("weight 100", "weight many"), ("  server s2", "  server s4"), ("# plan {", "# {")])
def test_a_file_that_somebody_edited_is_refused(damage: tuple[str, str]) -> None:
    text = render(PLAN, HELD, confined=True)
    assert damage[0] in text
    with pytest.raises(RouterError, match="cannot read the router's file"):
        read_plan(text.replace(*damage))
        read_slots(text.replace(*damage))


def test_addresses_have_one_form() -> None:
    assert str(parse("[0:0::1]:80")) == "[::1]:80"
    assert str(parse("10.0.0.1:80")) == "10.0.0.1:80"
    assert parse("0.0.0.0:80").overlaps(parse("127.0.0.1:80"))
    assert not parse("127.0.0.2:80").overlaps(parse("127.0.0.1:80"))
    assert not parse("0.0.0.0:81").overlaps(parse("127.0.0.1:80"))


def test_no_line_has_more_words_than_haproxy_takes() -> None:
    types = tuple(f"text/x{number}" for number in range(130))
    text = render(replace(PLAN, form=FORM, compression=Compression(types=types)), HELD, confined=True)
    lines = [line.split() for line in text.splitlines() if line.startswith("  compression type ")]
    assert [word for line in lines for word in line[2:]] == list(types)
    assert max(map(len, lines)) <= 64
