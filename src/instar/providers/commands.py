"""What an instance runs: its service's command, or one of its release's tasks."""

from __future__ import annotations

import re
from collections.abc import Sequence

from instar.errors import ProviderError
from instar.model.definition import Task, Volume
from instar.model.release import Instance, Release
from instar.model.roles import path_of_role

_TASK = re.compile(r"(before|after) ([1-9][0-9]*)( of .+)?")


def command_of(instance: Instance, release: Release) -> Sequence[str]:
    """Return the command that ``instance`` of ``release`` runs. Raises ProviderError when its task isn't there."""
    if instance.command is not None:
        return instance.command.argv
    task = task_of(instance, release)
    return release.service.command if task is None else task.command


def volumes_of(instance: Instance, release: Release) -> tuple[Volume, ...]:
    """Return the volumes that ``instance`` of ``release`` gets. Raises ProviderError when its task isn't there."""
    return release.service.volumes_of(task_of(instance, release))


def task_of(instance: Instance, release: Release) -> Task | None:
    """Return the task that ``instance`` runs; None: the service, or a command that was given. Raises ProviderError when
    ``release`` has it not."""
    if instance.task is None or instance.command is not None:
        return None
    found = _TASK.fullmatch(instance.task)
    if found is not None:
        tasks = release.service.before if found[1] == "before" else release.service.after
        if int(found[2]) <= len(tasks):
            return tasks[int(found[2]) - 1]
    raise ProviderError(f"release {release.number} has no task '{instance.task}'")


def key_of_command(instance: Instance) -> str:
    """Say where in the definition an author finds the command that ``instance`` runs ("service.before, task 1")."""
    of = ".".join(path_of_role(instance.role))
    if instance.task is None:
        return f"{of}.command"
    when, number, *_ = instance.task.split(" ")
    return f"{of}.{when}, task {number}"
