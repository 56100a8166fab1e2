"""What an environment takes from its clients: as it is written, as the router gets it, and where it cannot be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from instar.definition.load import parse
from instar.errors import DefinitionError
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from instar.model.requests import Requests
from instar.providers.base import RouterPlan

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
        ("10M", "environments.dev.requests: expected a section such as {largest_body: 10M}, found '10M'"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(requests: str, expected: str) -> None:
    [problem] = problems_of(f"listen: ':80', requests: {requests}")
    assert expected in problem


@pytest.mark.parametrize("key", ["requests: {largest_body: 1M}"])
def test_only_a_service_of_http_that_is_reached_reads_requests(key: str) -> None:
    [problem] = problems_of(f"listen: ':80', {key}", "port: 80, protocol: tcp")
    assert "the router does not read what a service of tcp is sent; remove it, or 'protocol: tcp'" in problem
    [problem] = problems_of(key, "workdir: /")
    assert "the service has no port, so nobody connects to it; remove this" in problem
    assert problems_of(f"listen: ':80', {key}", "port: 80, protocol: h2, health: {tcp: true}") == []
