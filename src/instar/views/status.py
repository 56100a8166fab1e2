"""How an environment is, as JSON and as pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from instar.model.release import shown_instance
from instar.model.roles import written
from instar.model.status import (
    EnvironmentStatus,
    InstanceStatus,
    MemberStatus,
    ReleaseStatus,
    RolloutStatus,
    TaintStatus,
)
from instar.model.uses import circle_text
from instar.views.page import Page, Table
from instar.views.releases import origin_line
from instar.views.units import age

_SHOWN_MEMBERS: Final = 6
_GO_ON: Final = "go on with: instar agent (instar agent --once: a single pass)"


def status_json(status: EnvironmentStatus) -> dict[str, Any]:
    return {
        "environment": status.environment.name,
        "listen": status.listen,
        "names": status.names,
        "active": status.active,
        "releases": status.releases,
        "service": status.environment.service,
        "unfinished": status.unfinished,
        "rollout": status.rollout,
        "alarm": status.alarm,
        "agent": status.agent,
        "layers": status.layers,
        "maintenance": status.maintenance,
        "internal": status.internal,
        "uses": status.uses,
        "circle": status.circle,
        "doors": status.doors,
        "shut": status.shut,
        "taken": status.taken,
        "taken_unknown": status.taken_unknown,
        "worked_on_by": status.worked_on_by,
        "unanswered": status.unanswered,
        "in_its_way": status.in_its_way,
    }


def status_page(status: EnvironmentStatus, now: datetime) -> Page:
    """Yield an environment with all its releases and instances, and what is not as wanted."""
    layers = f" · layers {status.layers}" if status.layers else ""
    yield f"{status.environment} listens on {', '.join(status.reached_at) or 'nothing'}{layers}"
    for door, where in status.doors.items() if len(status.doors) > 1 else ():
        yield f"{door} is reached at {', '.join(where)}"
    if status.uses:
        yield f"uses {', '.join(f'{one.environment} at {one.name}' for one in status.uses)}"
    rows = [
        (
            str(one.number),
            f"{one.state}, pinned" if one.pinned else one.state,
            f"{one.weight} %" if status.reached_at else "—",
            one.image.short,
            _healthy(one, status.unanswered if one.number == status.active else ()) if one.instances else "—",
            origin_line(one.origin) if one.origin else "",
        )
        for one in status.releases
    ]
    yield Table(rows=rows, header=("RELEASE", "STATE", "TRAFFIC", "IMAGE", "INSTANCES", "FROM"))
    with_roles = any(item.role for one in status.releases for item in one.instances)
    instances = [
        (
            item.id,
            *((item.role or "—",) if with_roles else ()),
            f"{item.state}, tainted" if item.taint else item.state,
            _health(item),
            item.address,
            age(item.started_at, now),
        )
        for one in status.releases
        for item in one.instances
    ]
    if instances:
        yield ""
        role = ("ROLE",) if with_roles else ()
        yield Table(rows=instances, header=("INSTANCE", *role, "STATE", "HEALTH", "ADDRESS", "FOR"))
    yield from _members(status)
    yield from troubles_page(status, now)
    if status.rollout is not None:
        yield f"\n{under_way(status.rollout)}"
        yield carried_out(status)


def _members(status: EnvironmentStatus) -> Page:
    """Say how the engine calls what runs, a few of each instance."""
    named = [item for one in status.releases for item in one.instances if item.member_names]
    if named:
        yield ""
    for item in named:
        more = len(item.member_names) - _SHOWN_MEMBERS
        shown = ", ".join(item.member_names[:_SHOWN_MEMBERS])
        yield f"{item.id} is {shown}{f' and {more} more (--json has all)' if more > 0 else ''}"


def overview_page(everything: Sequence[EnvironmentStatus], now: datetime) -> Page:
    """Yield a row for each environment, then what is not as wanted."""
    rows = []
    for one in everything:
        active = _active(one)
        hot = ", ".join(str(release.number) for release in one.releases if release.state == "hot")
        rows.append(
            (
                str(one.environment),
                f"{active.number} · {active.image.short}" if active else "—",
                _healthy(active, one.unanswered) if active else "—",
                age(min((item.started_at for item in active.instances if item.started_at), default=None), now)
                if active
                else "—",
                hot or "—",
                ", ".join(one.reached_at) or "—",
            )
        )
    yield Table(rows=rows, header=("ENVIRONMENT", "RELEASE", "INSTANCES", "OLDEST", "HOT", "LISTENS ON"))
    for one in everything:
        yield from troubles_page(replace(one, taken_unknown=None), now)
        if one.rollout is not None:
            yield f"\n{one.environment}: {under_way(one.rollout)}"
    yield from _unknown(everything)


def _unknown(everything: Sequence[EnvironmentStatus]) -> Page:
    """Say once of all for which reason it is not known who takes requests for their names: it is most often one."""
    found = dict[str, list[str]]()
    for one in everything:
        if one.taken_unknown is not None and not one.destroying:
            found.setdefault(one.taken_unknown, []).append(str(one.environment))
    for why, names in found.items():
        yield f"\n{', '.join(names)}: not all who take requests for their names are known: {why}"


def troubles_page(status: EnvironmentStatus, now: datetime) -> Page:
    """Yield what is not as wanted, and which instances are to be replaced."""
    yield from _advice(status)
    yield from _taints(status, now)


def _advice(status: EnvironmentStatus) -> Page:
    """Say what isn't as wanted, and what to do."""
    if status.destroying:
        yield f"\n{status.environment} is being destroyed; finish it with: instar destroy {status.environment}"
        return
    if status.maintenance:
        yield (
            f"\n{status.environment} is in maintenance: its instances get no requests; "
            f"end it with: instar maintenance {status.environment} off"
        )
    active = _active(status)
    for text in status.shut:
        yield f"\n{status.environment}: {text}"
    for one in status.uses:
        if one.trouble is not None:
            yield f"\n{status.environment} uses {one.environment}, {one.trouble}; nobody answers at {one.name}"
    for taken in status.taken:
        yield f"\n{status.environment}: {taken.path}: {taken.expected}, and {taken.observed}"
    if status.taken_unknown is not None:
        why = status.taken_unknown
        yield f"\n{status.environment}: not all who take requests for its names are known: {why}"
    if status.circle:
        yield f"\n{circle_text(status.circle)}"
    instances = active.instances if active else ()
    troubles = [f"{shown_instance(one.id, one.role)}: {one.reason}" for one in instances if one.reason]
    if active and status.reached_at and not status.router:
        why = f": {status.in_its_way}" if status.in_its_way is not None else ""
        troubles.append(f"its router does not run as it should{why}")
    if active and not active.instances:
        troubles.append("no instance of the active release runs")
    else:
        troubles += [_unanswered(status, role) for role in status.unanswered]
    if status.alarm:
        troubles.append(f"alarm: {status.alarm}")
    if troubles:
        yield "\n" + "\n".join(f"{status.environment}: {trouble}" for trouble in troubles)
        own = f" ({status.in_charge} does it on its own)" if status.in_charge and not status.alarm else ""
        silent = active is not None and any(one.state == "running" and one.reason for one in active.instances)
        agent = "instar agent, once it has seen it so for long enough" if silent else "instar agent --once"
        first = "once nothing is in the router's way, " if status.in_its_way is not None else ""
        if status.rollout is None or status.worked_on_by is None:  # else the rollout is said to be at work, and whose
            yield f"{first}repair it with: {agent}{own}"


def _unanswered(status: EnvironmentStatus, role: str) -> str:
    """Say that a role is down as a whole, and where that is noticed."""
    where = [one for door, names in status.doors.items() if door.partition(".")[0] == written(role) for one in names]
    nobody = f"nobody answers at {', '.join(where)}: " if where else ""
    of_role = f" of role '{role}'" if role else ""
    return f"{nobody}no instance{of_role} is well"


def _taints(status: EnvironmentStatus, now: datetime) -> Page:
    """Say which instances are to be replaced, why, when, and by whom."""
    items = [item for one in status.releases for item in one.instances]
    tainted = [_tainted(item.id, item.taint, now) for item in items if item.taint]
    members = [one for item in items for one in item.tainted_members]
    tainted += [_tainted(one.name, one.taint, now) for one in members if one.aside_at is None]
    aside = [one for one in members if one.aside_at is not None]
    if aside:
        yield "\n" + "\n".join(f"{status.environment}: {_aside(one)}" for one in aside)
    if tainted:
        yield "\n" + "\n".join(f"{status.environment}: {one}" for one in tainted)
        who = f"{status.in_charge or 'no agent runs; instar agent --once'} replaces"
        if status.alarm:
            yield "nothing is replaced while the alarm is on"
        elif status.rollout is not None:
            yield f"{who} what is due once the rollout has ended"
        else:
            yield f"{who} what is due"


def _aside(member: MemberStatus) -> str:
    taint, since = member.taint, f"{member.aside_at:%Y-%m-%d %H:%M:%S} UTC"
    return f"{member.name} was tainted ({taint.kind}: {taint.why}), and is kept as evidence since {since}"


def _tainted(name: str, taint: TaintStatus, now: datetime) -> str:
    due = "as soon as possible" if taint.due_at <= now else f"at {taint.due_at:%Y-%m-%d %H:%M:%S} UTC"
    aside = ", without traffic until then" if taint.isolated else ""
    return f"{name} is tainted ({taint.kind}: {taint.why}), to be replaced {due}{aside}"


def _health(item: InstanceStatus) -> str:
    if item.ready is not None and item.ready > item.members:
        return f"{item.ready} healthy"
    if item.members > 1 and item.ready is not None:
        return f"{item.ready} of {item.members} healthy"
    return {True: "healthy", False: "not healthy", None: "—"}[item.healthy]


def _ready(item: InstanceStatus) -> int:
    """Return how many members of a group are well."""
    return item.ready if item.ready is not None else item.members if item.healthy else 0


def _healthy(release: ReleaseStatus, unanswered: Sequence[str] = ()) -> str:
    ready = sum(1 for instance in release.instances if instance.state == "created")
    if ready and ready == len(release.instances):
        return f"{ready} ready to start"
    begun = [one for one in release.instances if one.state != "created" or not one.role]
    healthy, members = sum(map(_ready, begun)), sum(one.members for one in begun)
    unwell = f" of {members}" if healthy < members else ""
    waiting = f", {len(release.instances) - len(begun)} ready to start" if len(begun) < len(release.instances) else ""
    down = f", none of {', '.join(unanswered)}" if any(unanswered) and healthy else ""
    return f"{healthy}{unwell} healthy{down}{waiting}" if release.instances else "none runs"


def under_way(rollout: RolloutStatus) -> str:
    """Return "canary to release 8 by ann · 25 % (step 2 of 3) · paused · failed 0.00 % …"."""
    words = [f"{rollout.strategy} {rollout.kind} to release {rollout.release} by {rollout.actor}"]
    words.append(f"{rollout.percent} %" + (f" (step {rollout.step} of {rollout.steps})" if rollout.steps else ""))
    words += ["paused"] if rollout.paused else []
    words += [f"the volume '{name}' gets what it held in snapshot {number}" for name, number in rollout.data.items()]
    if rollout.awaited is not None:
        until = f", until {rollout.awaited.until:%H:%M:%S} UTC" if rollout.awaited.until else ""
        to = f" to '{rollout.awaited.role}'" if rollout.awaited.role else ""
        words.append(f"{rollout.awaited.requests} of {rollout.awaited.wanted} requests{to}{until}")
    if rollout.verdict is not None:
        candidate, stable = rollout.verdict["candidate"], rollout.verdict["stable"]
        word = "passed" if rollout.verdict["passed"] else "failed"
        figures = ", ".join(
            f"{name} {one['failed']} of {one['requests']} failed, {one['mean_ms']:.1f} ms"
            if one["requests"]
            else f"no requests to {name}"
            for name, one in ((f"release {rollout.release}", candidate), ("the release before", stable))
        )
        words.append(f"last verdict {word}: {figures}")
    return " · ".join(words)


def carried_out(status: EnvironmentStatus) -> str:
    """Say who carries the rollout out that is under way, or how it goes on where nobody does."""
    environment, rollout = status.environment, status.rollout
    if rollout is not None and rollout.paused:
        return f"continue with: instar rollout resume {environment}    give up with: instar rollout abort {environment}"
    give_up, who = f"give up with: instar rollout abort {environment}", status.worked_on_by or status.in_charge
    if who is not None:
        return f"{who} carries it out; {give_up}"
    return f"nobody carries it out: no process works on it, and no agent runs\n{_GO_ON}    {give_up}"


def _active(status: EnvironmentStatus) -> ReleaseStatus | None:
    return next((release for release in status.releases if release.number == status.active), None)
