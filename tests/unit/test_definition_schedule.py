"""What an environment has run by the clock, and what is refused."""

from __future__ import annotations

import pytest

from instar.definition import parse
from instar.errors import DefinitionError
from instar.model.environment import ScheduledTask


def text_of(entry: str, service: str = "service: {command: [./shop]}") -> str:
    return (
        f"name: shop\nimage: {{base: debian:bookworm}}\n{service}\n"
        f"environments:\n  a: {{schedule: {{nightly: {{command: [./report], {entry}}}}}}}\n"
    )


def entry_of(entry: str, **more: str) -> ScheduledTask:
    return parse(text_of(entry, **more), "f").definition.environments["a"].schedule["nightly"]


def test_a_command_has_its_line_or_its_steps_and_what_is_usual() -> None:
    assert entry_of("cron: '0  3 * * *'") == ScheduledTask(command=("./report",), cron="0 3 * * *")
    assert entry_of("every: 15m, missed: once, overlap: true") == ScheduledTask(
        command=("./report",), every_ms=900_000, missed="once", overlap=True
    )
    assert entry_of("cron: '0 3 29 2 *', zone: Europe/Berlin, timeout: 2h, retries: 3").zone == "Europe/Berlin"
    roles = "roles: {web: {command: [./web], port: 80}, worker: {command: [./work]}}"
    text = text_of("every: 1h, role: worker", roles).replace("{schedule:", "{listen: ':80', schedule:")
    assert parse(text, "f").definition.environments["a"].schedule["nightly"].role == "worker"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("cron: '0 3 30 2 *'", "expected a line such as '0 3 * * *', found '0 3 30 2 *'; no such day ever comes"),
        ("cron: '0 3 * *'", "it has five parts: minute, hour, day, month, weekday"),
        ("cron: '0 0 3 * * *'", "it has five parts"),
        ("cron: '@daily'", "it has five parts"),
        ("cron: '61 3 * * *'", "there is no such minute"),
        ("cron: '1 3 32 * *'", "there is no such day of the month"),
        ("cron: '1 3 * * 9'", "there is no such weekday"),
        ("cron: '* * * * *', zone: Europe/Berlon", "did you mean 'Europe/Berlin'?"),
        ("cron: '* * * * *', zone: ../../etc/passwd", "expected a time zone"),
        ("zone: UTC", "expected one of 'cron' and 'every', found neither"),
        ("cron: '* * * * *', every: 1m", "expected one of 'cron' and 'every', found both"),
        ("every: 1m, zone: Europe/Berlin", "steps are the same in every zone"),
        ("every: 1s", "expected at least 10s, found '1s'"),
        ("every: 1m, role: web", "there is no role 'web'; the service has no 'roles'"),
        ("every: 1m, retries: 11", "expected a whole number from 0 to 10"),
        ("every: 1m, missed: later", "expected skip or once"),
        ("every: 1m, timeout: never", "expected a time"),
    ],
)
def test_what_can_never_come_or_means_nothing_is_refused_where_it_stands(entry: str, message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse(text_of(entry), "f")
    assert message in str(caught.value.problems[0])
