"""The plan of a router, from what the definition says."""

from __future__ import annotations

from dataclasses import replace

from instar.definition.load import parse
from instar.model.definition import Definition, Headers
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from instar.providers.router_plan import RouterPlan

ENV = EnvironmentId(service="shop", name="dev")


def plan_of(service: str, environment: str = "", *, beside: str | None = None) -> RouterPlan:
    made = defined(service, environment)
    others = () if beside is None else (defined(beside).service,)
    return RouterPlan.of(ENV, Settings.of(made.environments["dev"]), made.service, others)


def defined(service: str, environment: str = "") -> Definition:
    text = (
        f"name: shop\nimage: {{base: debian:bookworm}}\nservice: {{command: [a], port: 80{service}}}\n"
        f"environments: {{dev: {{listen: ':80'{environment}}}}}\n"
    )
    found = parse(text, "instar.yaml").definition
    assert found is not None
    return found


def test_what_is_not_asked_for_is_as_it_always_was() -> None:
    plain = plan_of(", health: {path: /up}")
    assert (plain.health_path, plain.health_host, plain.wait_ms, plain.accept_proxy) == ("/up", "localhost", 0, ())
    assert plain.headers == Headers(size_bytes=32_768, count=200)


def test_what_is_asked_for_is_in_it() -> None:
    asked = ", health: {path: /up, host: shop.example}, timeouts: {wait: 30s}, headers: {size: 64K, count: 400}"
    plan = plan_of(asked, ", accept_proxy: [10.0.0.7/32, '0::1', 10.1.0.0/16]")
    assert (plan.health_path, plan.health_host, plan.wait_ms) == ("/up", "shop.example", 30_000)
    assert plan.headers == Headers(size_bytes=65_536, count=400)
    assert plan.accept_proxy == ("10.0.0.7", "::1", "10.1.0.0/16")


def test_releases_that_are_asked_as_different_hosts_are_only_connected_to() -> None:
    here = ", health: {path: /up, host: shop.example}"
    assert plan_of(here, beside=here).health_path == "/up"
    apart = plan_of(here, beside=", health: {path: /up}")
    assert (apart.health_path, apart.health_host) == (None, "localhost")


def test_connections_are_kept_as_all_releases_that_run_allow() -> None:
    asked = ", keep_alive: 5s"
    assert plan_of(asked).keep_alive_ms == plan_of(asked, beside=", keep_alive: 1m").keep_alive_ms == 5_000
    assert plan_of(", keep_alive: 1m", beside=asked).keep_alive_ms == 5_000
    assert plan_of(asked, beside="").keep_alive_ms == plan_of("", beside=asked).keep_alive_ms == 0


def test_a_service_of_tcp_has_no_headers_and_no_preview() -> None:
    plan = plan_of(", protocol: tcp, timeouts: {wait: 5s}")
    assert plan == replace(plan, headers=Headers(), preview=None, health_path=None, wait_ms=5_000)
