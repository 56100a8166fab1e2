"""What an instance runs: its service's command, or one of its release's tasks."""

from __future__ import annotations

import re
from collections.abc import Sequence

from instar.errors import ProviderError
from instar.model.release import Instance, Release

_TASK = re.compile(r"(before|after) ([1-9][0-9]*)")


def command_of(instance: Instance, release: Release) -> Sequence[str]:
    """Return the command that ``instance`` of ``release`` runs. Raises ProviderError when its task isn't there."""
    service = release.service
    if instance.task is None:
        return service.command
    found = _TASK.fullmatch(instance.task)
    if found is not None:
        tasks = service.before if found[1] == "before" else service.after
        if int(found[2]) <= len(tasks):
            return tasks[int(found[2]) - 1].command
    raise ProviderError(f"release {release.number} has no task '{instance.task}'")


def place_of_command(instance: Instance) -> str:
    """Say where in the definition an author finds the command that ``instance`` runs ("service.before, task 1")."""
    if instance.task is None:
        return "service.command"
    when, _, number = instance.task.partition(" ")
    return f"service.{when}, task {number}"
