"""Doors of several ports: what is read, what is kept, and what is said of what can't be."""

from __future__ import annotations

import dataclasses

import pytest

from instar.definition.kept import require_kept
from instar.definition.load import parse
from instar.errors import DefinitionError
from instar.model.codec import from_json, to_json
from instar.model.definition import Definition, Timeouts
from instar.model.digest import Digest
from instar.model.doors import Door, Port
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from instar.providers.doors import DoorPlan, first_sites
from instar.providers.router_plan import RouterPlan
from instar.router import selection

SERVICE = "service: {command: [a], port: 80, ports: {admin: 9000, feed: {port: 9001, protocol: tcp}}}\n"
ROLES = "roles: {web: {command: [a], port: 80, ports: {admin: 9000}}, worker: {command: [b]}}\n"
HEAD = "name: shop\nimage: {base: debian:bookworm}\n"


def read(listen: str, service: str = SERVICE) -> Definition:
    return parse(f"{HEAD}{service}environments:\n  a: {{listen: {listen}}}\n", "instar.yaml").definition


def told(listen: str, service: str = SERVICE) -> list[str]:
    with pytest.raises(DefinitionError) as refused:
        read(listen, service)
    return [one.message for one in refused.value.problems]


def test_each_port_has_a_door_and_the_first_is_kept_as_it_always_was() -> None:
    found = read("{service: ':81', service.admin: [127.0.0.1:90, '[::1]:90'], service.feed: {address: ':91'}}")
    assert found.service.ports == {"admin": Port(port=9000), "feed": Port(port=9001, protocol="tcp")}
    settings = Settings.of(found.environments["a"])
    assert settings.listen == ("0.0.0.0:81",)
    assert settings.doors == {
        ".admin": Door(listen=("127.0.0.1:90", "[::1]:90")),
        ".feed": Door(listen=("0.0.0.0:91",)),
    }
    assert settings.all_listen == ("0.0.0.0:81", "127.0.0.1:90", "[::1]:90", "0.0.0.0:91")
    require_kept(settings)
    assert from_json(Settings, to_json(settings)) == settings


def test_a_door_is_called_by_its_role() -> None:
    settings = Settings.of(read("{web: {https: [shop.example]}, web.admin: 127.0.0.1:9000}", ROLES).environments["a"])
    assert settings.names.https == ("shop.example",)
    assert settings.doors == {".admin": Door(listen=("127.0.0.1:9000",))}


def test_one_door_can_be_written_by_its_role_too() -> None:
    plain = Settings.of(read("':81'", ROLES).environments["a"])
    assert Settings.of(read("{web: ':81'}", ROLES).environments["a"]) == plain
    assert "doors" not in to_json(plain), "what has none is written down as before"


@pytest.mark.parametrize(
    ("listen", "message"),
    [
        ("{service.admin: ':90'}", "'service' is missing: say where its port is reached, or 'service: internal'"),
        ("{service: ':81', service.amin: ':90'}", "'service' has no port 'amin'; did you mean 'admin'?"),
        ("{service: ':81', web.admin: ':90'}", "there is no role 'web'; expected service"),
        ("{service: ':81', service.admin: internal}", "only the first port is found by name"),
        (
            "{service: ':81', service.feed: {http: a.test}}",
            "only requests of http can come by name, and the port is of",
        ),
        ("{service: {http: a.test}, service.admin: {http: a.test}}", "'a.test' is taken: this one has it in line 5"),
        (
            "{service: {https: a.b}, service.admin: {https: c.b, hsts: 1h}}",
            "'hsts' holds for all names of an environment",
        ),
        (
            "{service: ':81', service.admin: ':81'}",
            "listen.service.admin: 0.0.0.0:81 is taken: 'listen.service' is 0.0.0.0:81, in line 5",
        ),
        (
            "{service: ':81', service.feed: 127.0.0.1:81}",
            "listen.service.feed: 127.0.0.1:81 is taken: 'listen.service' is 0.0.0.0:81, in line 5",
        ),
        ("{service: ':81', service.a.b: ':90'}", "expected a role, or a port of one, such as 'web' or 'web.admin'"),
        ("{service: [':81', internal]}", "'internal' stands alone"),
        ("{htps: [shop.example]}", "unknown key 'htps'; did you mean 'https'?"),
    ],
)
def test_a_door_that_cannot_be_is_refused(listen: str, message: str) -> None:
    assert any(message in one for one in told(listen)), told(listen)


def test_no_port_has_a_name_where_the_first_speaks_tcp() -> None:
    service = "service: {command: [a], port: 5432, protocol: tcp, ports: {web: 9001}}\n"
    (problem,) = told("{service: '127.0.0.1:5432', service.web: {https: [shop.example]}}", service)
    assert "no port is found by name where the first one speaks tcp" in problem


@pytest.mark.parametrize(
    ("listen", "message"),
    [
        ("{web: ':81', worker: ':90'}", "'worker' has no port to send requests to; add roles.worker.port"),
        ("{web: ':81', wb.admin: ':90'}", "there is no role 'wb'; did you mean 'web'?"),
        ("{web: ':81', web.metrics: ':90'}", "'web' has no port 'metrics'; add it to roles.web.ports, or remove this"),
    ],
)
def test_a_door_of_a_role_without_that_port_is_refused(listen: str, message: str) -> None:
    assert any(message in one for one in told(listen, ROLES)), told(listen, ROLES)


@pytest.mark.parametrize(
    ("service", "message"),
    [
        ("service: {command: [a], ports: {admin: 9000}}\n", "these are further ones; say the first as 'port'"),
        ("service: {command: [a], port: 80, ports: {admin: 80}}\n", "'admin' is port 80, which is the first one's"),
        ("service: {command: [a], port: 80, ports: {b: 81, c: 81}}\n", "'c' is port 81, which is 'b's already"),
        ("service: {command: [a], port: 80, ports: {b: 70000}}\n", "expected a whole number from 1 to 65535"),
        ("service: {command: [a], port: 80, ports: {b: {port: 81, protocol: udp}}}\n", "expected http, h2 or tcp"),
    ],
)
def test_ports_that_cannot_be_are_refused(service: str, message: str) -> None:
    assert any(message in one for one in told("':81'", service)), told("':81'", service)


TWO = "roles: {web: {command: [a], port: 80}, api: {command: [b], port: 81, ports: {admin: 90}}, job: {command: [c]}}\n"


def test_each_role_with_a_port_has_its_door() -> None:
    found = read("{web: {https: [a.b]}, api: {https: [api.a.b], address: ':82'}, api.admin: ':90'}", TWO)
    settings = Settings.of(found.environments["a"])
    assert settings.doors == {
        "api": Door(listen=("0.0.0.0:82",), sites=("api.a.b",)),
        "api.admin": Door(listen=("0.0.0.0:90",)),
    }
    assert (settings.listen, settings.names.https) == ((), ("a.b", "api.a.b"))
    require_kept(settings)
    api = dataclasses.replace(found.services["api"], timeouts=Timeouts(request_ms=7, wait_ms=9))
    plan = RouterPlan.of(
        EnvironmentId(service="shop", name="a"), settings, found.services["web"], roles={"api": (api,)}
    )
    assert [(one.key, one.request_timeout_ms, one.wait_ms) for one in plan.doors] == [
        ("api", 7, 9),
        ("api.admin", 7, 9),
    ]
    assert (plan.instances, plan.sites) == (2, ("a.b",))


@pytest.mark.parametrize(
    ("listen", "message"),
    [
        ("':81'", "listen: 'api' is missing: it has a port"),
        ("{web: ':81'}", "listen: 'api' is missing: it has a port"),
        ("{api: ':81'}", "listen: 'web' is missing"),
        ("{web: ':81', api: ':82', api.admin: internal}", "listen.api.admin: only the first port is found by name"),
        ("{web: ':81', api: [internal, ':82']}", "'internal' stands alone"),
        ("{web: ':81', api: ':82', job: ':83'}", "listen.job: 'job' has no port to send requests to"),
        ("{web: ':81', api: ':82', apo: ':83'}", "listen.apo: there is no role 'apo'; did you mean 'api'?"),
        ("{web: ':81', api: ':81'}", "0.0.0.0:81"),
        ("{web: {https: [a.b]}, api: {https: [a.b]}}", "a.b"),
        ("{web: ':81', api: {https: [a.b], hsts: 1d}}", "'hsts' holds for all names of an environment"),
    ],
)
def test_a_door_of_another_role_that_cannot_be_is_refused(listen: str, message: str) -> None:
    assert any(message in one for one in told(listen, TWO)), told(listen, TWO)


def test_a_role_may_be_found_by_its_name_alone() -> None:
    found = read("{web: ':81', api: internal}", TWO).environments["a"]
    assert found.doors == {"api": Door(internal=True)} and not found.internal
    require_kept(Settings.of(found))
    assert to_json(Door(listen=("127.0.0.1:1",))) == {"listen": ["127.0.0.1:1"], "sites": []}, "as it was before"


def test_names_of_a_role_that_speaks_tcp_are_refused() -> None:
    spoken = TWO.replace("port: 81", "port: 81, protocol: tcp")
    assert any(
        "only requests of http can come by name" in one for one in told("{web: ':1', api: {http: [a.b]}}", spoken)
    )


@pytest.mark.parametrize("key", ["requests: {largest_body: 1M}", "compression: {}", "access_log: true"])
def test_what_is_said_of_requests_is_about_any_door_that_speaks_http(key: str) -> None:
    bytes_first = TWO.replace("port: 80", "port: 80, protocol: tcp")
    assert bytes_first != TWO
    environment = f"{{web: ':81', api: ':82'}}, {key}"
    read(environment, bytes_first)
    neither = bytes_first.replace("port: 81", "port: 81, protocol: tcp")
    assert any("does not read what a service of tcp is sent" in one for one in told(environment, neither))
    further = "service: {command: [a], port: 80, protocol: tcp, ports: {web: 9001}}\n"
    read(f"{{service: ':81', service.web: ':82'}}, {key}", further)


def test_a_preview_is_of_any_door_that_speaks_http_by_header_alone() -> None:
    bytes_first = TWO.replace("port: 80", "port: 80, protocol: tcp")
    read("{web: ':81', api: ':82'}, preview: header", bytes_first)
    assert any(
        "leads to the first port, which speaks tcp; write 'preview: header'" in one
        for one in told("{web: ':81', api: ':82'}, preview: '127.0.0.1:9'", bytes_first)
    )


def test_the_plan_has_them_where_the_first_door_is_of_tcp() -> None:
    bytes_first = TWO.replace("port: 80", "port: 80, protocol: tcp")
    found = read(
        "{web: ':81', api: ':82'}, compression: {}, access_log: true, requests: {largest_body: 1M}", bytes_first
    )
    where, settings = EnvironmentId(service="shop", name="a"), Settings.of(found.environments["a"])
    plan = RouterPlan.of(where, settings, found.roles["web"], roles={"api": (found.roles["api"],)})
    assert (plan.protocol, plan.access_log, plan.requests.largest_body_bytes) == ("tcp", True, 1 << 20)
    assert plan.compression is not None
    alone = RouterPlan.of(where, dataclasses.replace(settings, doors={}), found.roles["web"])
    assert (alone.access_log, alone.requests.largest_body_bytes, alone.compression) == (False, None, None)


@pytest.mark.parametrize("key", ["..admin", "a.b.c", "A", ".admin\n  bind :1", ""])
def test_what_a_ledger_keeps_of_doors_is_held_against_their_form(key: str) -> None:
    with pytest.raises(ValueError, match="doors"):
        require_kept(Settings(listen=("127.0.0.1:1",), doors={key: Door(listen=("127.0.0.1:2",))}))


def test_a_plan_has_all_doors_and_one_without_is_the_same_as_before() -> None:
    found = read("{service: ':81', service.feed: ':91'}")
    where, settings = EnvironmentId(service="shop", name="a"), Settings.of(found.environments["a"])
    plan = RouterPlan.of(where, settings, found.service)
    assert plan.doors == (
        DoorPlan(
            key=".feed",
            listen=("0.0.0.0:91",),
            protocol="tcp",
            request_timeout_ms=60_000,
            tunnel_timeout_ms=3_600_000,
        ),
    )
    assert from_json(RouterPlan, to_json(plan)) == plan
    without = RouterPlan.of(where, Settings(listen=("0.0.0.0:81",)), found.service)
    assert "doors" not in to_json(without)
    assert without.fingerprint != plan.fingerprint
    assert Digest(plan.fingerprint)


def test_names_lead_to_the_door_that_they_are_written_at() -> None:
    first = "{https: [shop.example, '*.s.example'], redirect: {w.example: shop.example}}"
    found = read(f"{{web: {first}, web.admin: {{https: [a.s.example]}}}}", ROLES)
    settings = Settings.of(found.environments["a"])
    assert settings.names.sites == ("shop.example", "*.s.example", "a.s.example", "w.example")
    assert settings.doors == {".admin": Door(sites=("a.s.example",))}
    assert first_sites(settings) == ("shop.example", "*.s.example")
    plan = RouterPlan.of(EnvironmentId(service="shop", name="a"), settings, found.services["web"])
    assert (plan.sites, plan.doors[0].sites) == (first_sites(settings), ("a.s.example",))
    require_kept(settings)
    assert selection.rules({"a.b": "instances"}, "instances") == ()
    sites = {"*.s.example": "one", "s.example/x": "two", "s.example": "one", "a.s.example": "two"}
    rules = selection.rules(sites, "one")
    assert [rule.split(" if ")[1] for rule in rules if "use_backend" in rule] == [
        "{ var(txn.site) -m beg a.s.example/ }",
        "{ var(txn.site) -m beg s.example/x/ }",
        "{ var(txn.site) -m beg s.example/ }",
        r"{ var(txn.site) -m reg ^[^./]+\.s\.example/ }",
    ]
