"""``instar top``: what an environment's instances use, and the requests that they answer. Changes nothing, and asks no
instance how it is: a look is cheap enough for every second."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from instar.control.snapshot import GroupView
from instar.errors import NotFound
from instar.frozen import dataclass
from instar.model.definition import Service
from instar.model.release import EnvironmentId, EnvironmentState, Instance, Served
from instar.model.usage import (
    Consumption,
    EnvironmentConsumption,
    InstanceConsumption,
    Measured,
    MemberUsage,
    ReleaseConsumption,
    RoleConsumption,
    Usage,
    difference,
    together,
    with_requests,
)
from instar.operations.workspace import Workspace
from instar.providers.base import Observed, Traffic

FIRST_S = 1.0  # between the two readings that a single page is made of
_UNMEASURED = "its provider does not measure what instances use"
_NO_ROUTER = "nothing that routes requests answers, so nobody counts them"
_UNCOUNTED = "its provider counts no requests as they come: ask whoever does, such as the gateway's own figures"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """An environment at one moment: ``moment_s`` is of the monotonic clock. ``instances`` are all that the ledger has,
    ``observed`` how each is, ``served`` what each has answered where it is known; ``timed``: response times are, of
    those releases."""

    at: datetime
    moment_s: float
    state: EnvironmentState
    instances: tuple[Instance, ...]
    observed: Mapping[str, Observed]
    measured: Measured
    served: Mapping[str, Served]
    timed: frozenset[int]
    uncounted: str | None


def top(workspace: Workspace, environment: EnvironmentId, apart_s: float = FIRST_S) -> EnvironmentConsumption:
    """Return what ``environment`` uses, of two readings so far apart. Raises NotFound."""
    before = read(workspace, environment)
    workspace.cancellation.pause(apart_s)
    return compare(before, read(workspace, environment))


def live(workspace: Workspace, environment: EnvironmentId, every_s: float) -> Iterator[EnvironmentConsumption]:
    """Yield what ``environment`` uses, at once and then every so many seconds, for ever. Raises NotFound when it is
    gone."""
    before = None
    while True:
        reading = read(workspace, environment)
        yield compare(before, reading)
        before = reading
        workspace.cancellation.pause(max(0.0, every_s - (time.monotonic() - reading.moment_s)))


def read(workspace: Workspace, environment: EnvironmentId) -> Reading:
    """Look once. Raises NotFound."""
    ledger = workspace.ledger
    state = ledger.find_environment(environment)
    if state is None:
        raise NotFound(f"cannot find environment '{environment}': it was destroyed")
    instances = tuple(ledger.instances(environment))
    provider = workspace.provider(state.settings.provider)
    seen = provider.observe(environment, instances)
    observed = {one.id: one for one in seen.groups}
    running = [one for one in instances if observed[one.id].state in ("created", "running", "ending")]
    moment_s = time.monotonic()
    measured = Measured(unknown=_UNMEASURED)
    if provider.measures is not None:
        measured = provider.measures.measure(environment, running)
    numbers = {one.release for one in instances}
    services = {number: ledger.get_release(environment, number).service for number in numbers}
    return Reading(
        at=ledger.now(),
        moment_s=moment_s,
        state=state,
        instances=instances,
        observed=observed,
        measured=measured,
        served=_served(seen.traffic) if provider.counts is not None else {},
        timed=frozenset(number for number, service in services.items() if service.http),
        uncounted=_uncounted(seen.traffic, services.values(), counts=provider.counts is not None),
    )


def compare(before: Reading | None, after: Reading) -> EnvironmentConsumption:
    """Return what came between two readings, and what is so at the later one."""
    seconds = None if before is None else max(after.moment_s - before.moment_s, 1e-3)
    used = _used(before, after.measured, seconds)
    served = {name: _answered(before, name, one) for name, one in after.served.items()}
    releases = tuple(
        _release(after, number, used, served, seconds)
        for number in sorted({one.release for one in after.instances}, reverse=True)
    )
    serving = [one.id for one in after.instances if one.task is None]
    timed = {one.release for one in after.instances} <= after.timed
    return EnvironmentConsumption(
        environment=after.state.id,
        active=after.state.active,
        at=after.at,
        seconds=seconds,
        figures=_with_requests([one.figures for one in releases], serving, served, seconds, timed=timed),
        releases=releases,
        unknown=tuple(filter(None, (after.measured.unknown, after.uncounted))) if after.instances else (),
    )


Used = Mapping[str, Sequence[tuple[str, Consumption]]]  # by group: the name of each member, and what it uses
Answered = Mapping[str, Served | None]


def _served(traffic: Traffic) -> Mapping[str, Served]:
    """Return what each group has answered. Of a router that does not answer its zeros are no figures."""
    if traffic.plan is None:
        return {}
    return {name: one.served for name, one in traffic.groups.items() if one.served is not None}


def _uncounted(traffic: Traffic, services: Iterable[Service], *, counts: bool) -> str | None:
    """Say why requests are not known where there can be any."""
    if all(service.port is None for service in services):
        return None
    if not counts:
        return _UNCOUNTED
    return _NO_ROUTER if traffic.plan is None else None


def _used(before: Reading | None, measured: Measured, seconds: float | None) -> Used:
    known = {one.name: one.usage for one in before.measured.members} if before is not None else {}
    found: dict[str, list[tuple[str, Consumption]]] = {}
    for one in measured.members:
        found.setdefault(one.group, []).append((one.name, _consumption(one, known, seconds)))
    return found


def _consumption(member: MemberUsage, known: Mapping[str, Usage], seconds: float | None) -> Consumption:
    return difference(known.get(member.name), member.usage, seconds)


def _answered(before: Reading | None, name: str, now: Served) -> Served | None:
    """Return what a group answered between two readings: all, where it was not there before; None where nobody knows
    how much it was before."""
    if before is None:
        return None
    if name in before.served:
        return now.since(before.served[name])
    return None if before.uncounted is not None else now


def _release(after: Reading, number: int, used: Used, served: Answered, seconds: float | None) -> ReleaseConsumption:
    mine = [one for one in after.instances if one.release == number]
    roles = tuple(
        _role(after, role, [one for one in mine if one.role == role], used, served, seconds)
        for role in dict.fromkeys(one.role for one in mine)
    )
    names = [one.id for one in mine if one.task is None]
    figures = _with_requests([one.figures for one in roles], names, served, seconds, timed=number in after.timed)
    return ReleaseConsumption(number=number, figures=figures, roles=roles)


def _role(
    after: Reading, role: str, groups: Sequence[Instance], used: Used, served: Answered, seconds: float | None
) -> RoleConsumption:
    timed = all(one.release in after.timed for one in groups)
    instances = tuple(
        each for one in groups for each in _instances(one, after.observed[one.id], used, served, seconds, timed=timed)
    )
    names = [one.id for one in groups if one.task is None]
    figures = _with_requests([one.figures for one in instances], names, served, seconds, timed=timed)
    return RoleConsumption(role=role, figures=figures, instances=instances)


def _instances(
    group: Instance, observed: Observed, used: Used, served: Answered, seconds: float | None, *, timed: bool
) -> Iterator[InstanceConsumption]:
    """Yield each member of a group. Requests are the group's: of one of several members nobody knows how many."""
    state = GroupView(instance=group, observed=observed).state
    members = used.get(group.id) or [(group.id, Consumption())]
    own = [group.id] if len(members) == 1 else []
    for name, used_by_it in members:
        figures = _with_requests([used_by_it], own, served, seconds, timed=timed)
        yield InstanceConsumption(id=name, state=state, figures=figures, task=group.task)


def _with_requests(
    several: Sequence[Consumption], groups: Sequence[str], served: Answered, seconds: float | None, *, timed: bool
) -> Consumption:
    """Return what several use together, with the requests of ``groups``."""
    known = [one for one in (served.get(name) for name in groups) if one is not None]
    total = sum(known[1:], known[0]) if known else None
    return with_requests(together(several), total, seconds, timed=timed)
