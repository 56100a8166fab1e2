"""What an environment takes from its clients: as it is written, as the router gets it, and where it cannot be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from instar.definition.load import parse
from instar.errors import DefinitionError
from instar.model.codec import canonical
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from instar.model.requests import Rate, Requests
from instar.providers.router_plan import RouterPlan

ENV = EnvironmentId(service="shop", name="dev")


def written(environment: str, service: str = "port: 80") -> str:
    return (
        f"name: shop\nimage: {{base: debian:bookworm}}\nservice: {{command: [a], {service}}}\n"
        f"environments: {{dev: {{{environment}}}}}\n"
    )


def plan_of(environment: str, service: str = "port: 80") -> RouterPlan:
    made = parse(written(f"listen: ':80'{environment}", service), "instar.yaml").definition
    assert made is not None
    return RouterPlan.of(ENV, Settings.of(made.environments["dev"]), made.service)


def problems_of(environment: str, service: str = "port: 80") -> list[str]:
    try:
        parse(written(environment, service), "instar.yaml")
    except DefinitionError as error:
        return [line for line in str(error).splitlines() if line.startswith("instar.yaml:")]
    return []


def test_the_plan_has_what_is_asked_for_and_is_else_as_it_was() -> None:
    plain = plan_of("")
    assert plain.requests == Requests()
    limited = plan_of(", requests: {largest_body: 10M}")
    assert limited.requests == Requests(largest_body_bytes=10 << 20)
    assert limited.fingerprint != plain.fingerprint == plan_of(", requests: {}").fingerprint
    assert replace(limited, requests=Requests()) == plain
    asked = "largest_body: 1K, body_within: 1m, rate: {requests: 100}"
    every = plan_of(f", requests: {{{asked}}}, compression: {{}}", "port: 80, timeouts: {stream: 15m}")
    rate = Rate(requests=100, within_ms=1_000)
    assert every.requests == Requests(largest_body_bytes=1024, body_within_ms=60_000, rate=rate)
    assert every.compression is not None and "text/html" in every.compression.types
    assert every.stream_timeout_ms == 900_000 and plain.stream_timeout_ms == 0 and plain.compression is None


def test_a_stream_is_the_programs_business_and_all_else_its_doors() -> None:
    """What is of the service is part of a release; whoever says nothing of all this has the digests of before."""
    made = parse(written("listen: ':80'"), "instar.yaml").definition
    streams = parse(written("listen: ':80'", "port: 80, timeouts: {stream: 15m}"), "instar.yaml").definition
    limited = parse(
        written("listen: ':80', requests: {rate: {requests: 9}}, compression: {}"), "instar.yaml"
    ).definition
    assert made and streams and limited
    assert canonical(made.service) == canonical(limited.service) != canonical(streams.service)
    assert b"stream" not in canonical(made.service)
    kept = canonical(Settings.of(made.environments["dev"]))
    assert b"requests" not in kept.replace(b"min_requests", b"") and b"compression" not in kept
    assert b"access_log" not in kept


def test_an_access_log_is_asked_for_by_an_environment_or_for_all() -> None:
    assert not plan_of("").access_log and plan_of(", access_log: true").access_log
    assert plan_of(", access_log: false").fingerprint == plan_of("").fingerprint
    for_all = "\ndefaults: {access_log: true}\n"
    made = parse(written("listen: ':80'") + for_all, "instar.yaml").definition
    assert made is not None and made.environments["dev"].access_log
    [problem] = problems_of("listen: ':80', access_log: yes")
    assert "true or false" in problem


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        (
            "{largest_bodi: 10M}",
            "4:48: environments.dev.requests: unknown key 'largest_bodi'; did you mean 'largest_body'",
        ),
        ("{largest_body: 10}", "found the number 10; a unit is missing; did you mean '10M'?"),
        ("{largest_body: 0K}", "expected at least 1K"),
        ("{largest_body: 2000T}", "found '2000T'; the largest is 1024T"),
        ("{body_within: 500ms}", "expected at least 1s, found '500ms'"),
        ("{body_within: 60}", "a unit is missing; did you mean '60s'?"),
        ("{rate: 100}", "environments.dev.requests.rate: expected a section such as {requests: 100, within: 10s}"),
        ("{rate: {within: 1s}}", "environments.dev.requests.rate: 'requests' is missing"),
        ("{rate: {requests: 0}}", "expected a whole number from 1 to 1000000, found the number 0"),
        ("{rate: {requests: 2000000}}", "expected a whole number from 1 to 1000000"),
        ("{rate: {requests: 5, within: 25h}}", "expected 1s to 24h, found '25h'"),
        ("{rate: {requests: 5, whithin: 1s}}", "unknown key 'whithin'; did you mean 'within'?"),
        ("10M", "environments.dev.requests: expected a section such as {largest_body: 10M}, found '10M'"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(requests: str, expected: str) -> None:
    [problem] = problems_of(f"listen: ':80', requests: {requests}")
    assert expected in problem


@pytest.mark.parametrize(
    ("compression", "expected"),
    [
        ("gzip", "expected a section such as {types: [text/html]}, or {} for the usual types, found 'gzip'"),
        ("true", "write {} for the defaults"),
        ("{types: []}", "found an empty list"),
        ("{types: [text/html, text/html]}", "'text/html' stands here twice, first in line 4"),
        ("{types: [html]}", "expected a type such as 'text/html', found 'html'"),
        ("{types: ['Text/HTML; charset=utf-8']}", "did you mean 'text/html'?"),
        ("{types: ['a/b c']}", "expected a type such as 'text/html'"),
        ("{typs: [text/html]}", "unknown key 'typs'; did you mean 'types'?"),
    ],
)
def test_what_is_wrong_with_compression_is_told(compression: str, expected: str) -> None:
    [problem] = problems_of(f"listen: ':80', compression: {compression}")
    assert expected in problem


def test_a_connection_of_tcp_is_no_stream() -> None:
    [problem] = problems_of("listen: ':80'", "port: 80, protocol: tcp, timeouts: {stream: 5m}")
    assert (
        problem.startswith("instar.yaml:3:")
        and "service.timeouts.stream: 'tunnel' is for connections of tcp" in problem
    )
    [problem] = problems_of("listen: ':80'", "port: 80, timeouts: {streem: 5m}")
    assert "did you mean 'stream'?" in problem


@pytest.mark.parametrize(
    "key", ["requests: {largest_body: 1M}", "requests: {rate: {requests: 5}}", "compression: {}", "access_log: true"]
)
def test_only_a_service_of_http_that_is_reached_reads_requests(key: str) -> None:
    [problem] = problems_of(f"listen: ':80', {key}", "port: 80, protocol: tcp")
    assert "the router does not read what a service of tcp is sent; remove it, or 'protocol: tcp'" in problem
    [problem] = problems_of(key, "workdir: /")
    assert "the service has no port, so nobody connects to it; remove this" in problem
    assert problems_of(f"listen: ':80', {key}", "port: 80, protocol: h2, health: {tcp: true}") == []
