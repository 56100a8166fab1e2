"""Doors that lead to a port which a release has not, or to another role than before: what is said of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from instar.errors import Refused
from instar.model.configuration import Configuration
from instar.model.environment import Settings
from instar.model.plan import PlannedRole
from instar.model.release import EnvironmentId
from instar.providers.doors import roles_of

_SHUT: Final = "a port of role '{role}' to which no door leads: nobody reaches it there"


def without_ports(settings: Settings, configuration: Configuration) -> Iterator[tuple[str, str, str]]:
    """Yield the doors of ``settings`` whose ports ``configuration`` has not: which, what is missing, where it
    listens."""
    for key, door in sorted(settings.doors.items()):
        role, named, port = key.partition(".")
        service = configuration.roles.get(role) if role else configuration.service
        missing = f"port '{port}'" if named else f"role '{role}'"
        missing += f" besides its first, which '{role}' is" if role and role == configuration.role else ""
        if service is None or service.port is None or (named and port not in service.ports):
            yield key, missing, ", ".join((*door.listen, *door.sites)) or "its name inside"


def refuse_doors_without_ports(environment: EnvironmentId, settings: Settings, configuration: Configuration) -> None:
    """Raise Refused where a release would leave a door without anybody who answers there, or its first role has one of
    its own: by the definition another is the first, as where an older release is promoted."""
    first = configuration.role
    own = next((one for key, one in sorted(settings.doors.items()) if first and key.partition(".")[0] == first), None)
    if own is not None:
        raise Refused(
            f"cannot run that in '{environment}': its first role is '{first}', and the definition has another first, "
            f"and '{first}' behind a door of its own ({', '.join((*own.listen, *own.sites))})",
            hint=f"promote a release that was made since; or write '{first}' before the others in 'roles' again",
        )
    for _, missing, where in without_ports(settings, configuration):
        raise Refused(
            f"cannot run that in '{environment}': it has no {missing}, to which {where} leads",
            hint=f"bring a release that has it, or take the door out of environments.{environment.name}.listen",
        )


def door_warnings(settings: Settings, configuration: Configuration, release: int) -> Iterator[str]:
    """Yield which doors nobody answers at when the traffic is with a release from before there were their ports."""
    for _, missing, where in without_ports(settings, configuration):
        yield f"release {release} has no {missing}: nobody answers at {where} as long as it is the active one"
    for role, service in sorted(configuration.roles.items()):
        if service.port is not None and role not in roles_of(settings):
            told = f"release {release} has {_SHUT.format(role=role)}"
            yield f"{told}; to open one, deploy a definition with 'listen' for '{role}'"


def planned_roles(
    active: Configuration, wanted: Configuration, before: Settings, after: Settings
) -> tuple[PlannedRole, ...]:
    """Return which roles come and which go as a whole from ``active`` to ``wanted``, with their doors."""
    goes = active.roles.keys() - wanted.services.keys()
    comes = wanted.roles.keys() - active.services.keys()
    gone = [PlannedRole(role=role, comes=False, doors=tuple(_opened(role, after, before))) for role in goes]
    new = [PlannedRole(role=role, comes=True, doors=tuple(_opened(role, before, after))) for role in comes]
    return tuple(sorted((*gone, *new), key=lambda one: one.role))


def _opened(role: str, before: Settings, after: Settings) -> Iterator[str]:
    """Yield where the doors of a role are that ``after`` has and ``before`` has not."""
    for key, door in sorted(after.doors.items()):
        if key.partition(".")[0] == role and key not in before.doors:
            yield from (*door.listen, *door.sites)


def refuse_other_first(environment: EnvironmentId, before: Configuration | None, wanted: Configuration) -> None:
    """Raise Refused where a role would change between a door of its own and the first one: requests that are meant for
    it would get to another role meanwhile."""
    if before is None:
        return
    for one, other in ((before, wanted), (wanted, before)):
        moved = other.roles.get(one.first_role)
        if moved is not None and moved.port is not None:
            raise Refused(
                f"cannot run that in '{environment}': the first role with a port is '{before.role}' now, and would be"
                f" '{wanted.role}', while both are there",
                hint=f"write '{before.role}' before the others in 'roles', with a port; or destroy the environment",
            )


def refuse_first_not_defined(environment: EnvironmentId, defined: Configuration, wanted: Configuration) -> None:
    """Raise Refused where what is promoted has another first role than is ``defined``, while either has both: the first
    door is said for the one, and requests for it would get to the other."""
    for one, other in ((defined, wanted), (wanted, defined)):
        moved = other.roles.get(one.first_role)
        if moved is not None and moved.port is not None:
            raise Refused(
                f"cannot run that in '{environment}': its first role is '{wanted.role}', and the definition has another"
                f" first, '{defined.role}': requests for '{defined.role}' would get to '{wanted.role}'",
                hint=f"promote a release that was made since; or write '{wanted.role}' before the others in 'roles' "
                "again",
            )


def shut_port_warnings(settings: Settings, configuration: Configuration) -> Iterator[str]:
    """Yield which roles have a port to which no door leads, as of an older release that is promoted."""
    for role, service in sorted(configuration.roles.items()):
        if service.port is not None and role not in roles_of(settings):
            yield f"it has {_SHUT.format(role=role)}; to open one, add 'listen' for '{role}'"
