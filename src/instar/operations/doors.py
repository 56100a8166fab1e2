"""Doors that lead to a port which a release has not: what is said of them."""

from __future__ import annotations

from collections.abc import Iterator

from instar.errors import Refused
from instar.model.environment import Settings
from instar.model.release import Configuration, EnvironmentId


def without_ports(settings: Settings, configuration: Configuration) -> Iterator[tuple[str, str]]:
    """Yield the doors of ``settings`` whose ports ``configuration`` has not: what is missing, and where it listens."""
    for key, door in sorted(settings.doors.items()):
        role, named, port = key.partition(".")
        service = configuration.roles.get(role) if role else configuration.service
        missing = f"port '{port}'" if named else f"role '{role}'"
        if service is None or service.port is None or (named and port not in service.ports):
            yield missing, ", ".join(door.listen)


def refuse_doors_without_ports(environment: EnvironmentId, settings: Settings, configuration: Configuration) -> None:
    """Raise Refused where a release would leave a door without anybody who answers there."""
    for missing, where in without_ports(settings, configuration):
        raise Refused(
            f"cannot run that in '{environment}': it has no {missing}, to which {where} leads",
            hint=f"bring a release that has it, or take the door out of environments.{environment.name}.listen",
        )


def told_of_doors(settings: Settings, configuration: Configuration, release: int) -> Iterator[str]:
    """Yield which doors nobody answers at when the traffic is with a release from before there were their ports."""
    for missing, where in without_ports(settings, configuration):
        yield f"release {release} has no {missing}: nobody answers at {where} as long as it is the active one"
