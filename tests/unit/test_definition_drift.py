"""What an environment says of drift, and what is refused."""

import pytest

from instar.definition import parse
from instar.errors import DefinitionError
from instar.model.environment import Drift, Environment, Ignore

RULE = "kind: listener, reason: the debug port, until: 2027-01-31"


def text_of(environment: str, service: str = "port: 80") -> str:
    return (
        "name: shop\nimage: {base: debian:bookworm}\n"
        f"service: {{command: [./shop], {service}}}\nenvironments:\n  a: {{listen: ':80', {environment}}}\n"
    )


def environment_of(text: str) -> Environment:
    return parse(text_of(text), "f").definition.environments["a"]


def problem_of(text: str) -> str:
    with pytest.raises(DefinitionError) as caught:
        parse(text_of(text), "f")
    return str(caught.value.problems[0])


def test_drift_is_reported_every_minute_unless_it_is_said_otherwise() -> None:
    assert environment_of("").drift == Drift(check_ms=60_000, action="report")
    assert environment_of("drift: {check: 5s, action: replace}").drift == Drift(check_ms=5_000, action="replace")
    assert environment_of("drift: {check: never}").drift.check_ms is None
    assert environment_of("replace_within: 1h").replace_within_ms == 3_600_000


def test_a_rule_says_what_why_and_until_when() -> None:
    expected = Ignore(kind="listener", reason="the debug port", until="2027-01-31", path="*:9000")
    assert environment_of(f"drift: {{ignore: [{{{RULE}, path: '*:9000'}}]}}").drift.ignore == (expected,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("drift: {ignore: [{kind: listener, until: 2027-01-31}]}", "'reason' is missing"),
        ("drift: {ignore: [{kind: listener, reason: x}]}", "'until' is missing"),
        ("drift: {ignore: [{kind: listener, reason: ' ', until: 2027-01-31}]}", "expected a text that says why"),
        ("drift: {ignore: [{kind: listener, reason: x, until: 2027-02-30}]}", "there is no such day"),
        ("drift: {ignore: [{kind: listener, reason: x, until: soon}]}", "expected a day such as '2027-01-31'"),
        ("drift: {ignore: [{kind: listeners, reason: x, until: 2027-01-31}]}", "did you mean 'listener'?"),
        ("drift: {ignore: [{kind: rule, reason: x, until: 2027-01-31}]}", "found 'rule'"),
        ("drift: {check: 100ms}", "expected at least 1s"),
        ("drift: {action: repair}", "expected report or replace"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    assert message in problem_of(text)


def test_a_service_says_that_it_makes_code() -> None:
    assert parse(text_of("", "port: 80, jit: true"), "f").definition.service.jit
