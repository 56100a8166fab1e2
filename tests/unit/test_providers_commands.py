"""Which command an instance runs."""

from __future__ import annotations

import dataclasses

import pytest

from instar.errors import ProviderError
from instar.model.definition import Task, Volume
from instar.model.release import Command
from instar.providers.commands import command_of, key_of_command, volumes_of
from simulated.values import instance, release

TASKS = {
    "before": (Task(command=("migrate",)), Task(command=("warm", "up"))),
    "after": (Task(command=("tell",)),),
}


@pytest.mark.parametrize(
    ("task", "command", "place"),
    [
        (None, ("serve",), "service.command"),
        ("before 1", ("migrate",), "service.before, task 1"),
        ("before 2", ("warm", "up"), "service.before, task 2"),
        ("after 1", ("tell",), "service.after, task 1"),
    ],
)
def test_a_task_runs_its_own_command(task: str | None, command: tuple[str, ...], place: str) -> None:
    of = release(**TASKS)
    one = dataclasses.replace(instance(of=of), task=task)
    assert command_of(one, of) == command
    assert key_of_command(one) == place


def test_a_command_that_was_given_is_the_one_and_gets_all_volumes() -> None:
    volume = Volume(name="data", path="/data")
    of = release(volumes=(volume,), **TASKS)
    one = dataclasses.replace(instance(of=of), task="run 1", command=Command(argv=("console", "-v")))
    assert command_of(one, of) == ("console", "-v") and volumes_of(one, of) == (volume,)
    assert one.attended and not dataclasses.replace(one, task="before 1", command=None).attended


@pytest.mark.parametrize("task", ["before 0", "before 3", "after 2", "after", "during 1", "before -1"])
def test_a_task_that_the_release_does_not_have_is_an_error(task: str) -> None:
    of = release(**TASKS)
    with pytest.raises(ProviderError, match=f"release 1 has no task '{task}'"):
        command_of(dataclasses.replace(instance(of=of), task=task), of)
