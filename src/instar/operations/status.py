"""``instar status``: what runs now, by the ledger, the runtime and the router together. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from instar.control.endings import why_ended
from instar.control.observe import observe
from instar.control.snapshot import GroupView, Snapshot
from instar.control.steps import awaited, waits_for_somebody
from instar.errors import Cancelled, InstarError, LedgerUnreachable, ProviderError
from instar.frozen import dataclass
from instar.model.configuration import Configuration
from instar.model.doors import Door
from instar.model.drift import Finding, find_rule
from instar.model.environment import Settings
from instar.model.host_names import HostNames
from instar.model.machine import EdgeSettings, MachineSettings
from instar.model.release import EnvironmentState, MemberTaint, Release
from instar.model.roles import FIRST_DOOR, written
from instar.model.status import (
    EnvironmentStatus,
    InstanceStatus,
    MemberStatus,
    ReleaseStatus,
    RolloutStatus,
    TaintStatus,
)
from instar.operations.doors import door_warnings, without_ports
from instar.operations.layers import guarantee
from instar.operations.leading import agent_in_charge
from instar.operations.locks import agent_pid, is_here, who_acts_on
from instar.operations.preflight import preflight
from instar.operations.uses import circle, host_inside, uses_status
from instar.operations.workspace import Workspace
from instar.providers.base import Provider


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """All environments at a glance. ``elsewhere``: those that are on other machines; ``unknown``: SERVICE/ENV → why
    nobody can tell how it is."""

    here: tuple[EnvironmentStatus, ...]
    elsewhere: tuple[EnvironmentState, ...]
    unknown: Mapping[str, InstarError]


def overview(workspace: Workspace, service: str | None) -> Overview:
    """Return how each environment (of ``service``) is. What one can't tell keeps nobody from being told of another."""
    states, damaged = workspace.ledger.readable_environments(service)
    unknown, found = dict[str, InstarError](damaged), list[EnvironmentStatus]()
    here = [state for state in states if is_here(workspace, state)]
    for state in here:
        try:
            found.append(status(workspace, state, named=False))
        except (LedgerUnreachable, Cancelled):
            raise
        except InstarError as error:
            unknown[str(state.id)] = error
    elsewhere = tuple(state for state in states if state not in here)
    return Overview(here=tuple(found), elsewhere=elsewhere, unknown=unknown)


def status(workspace: Workspace, environment: EnvironmentState, *, named: bool = True) -> EnvironmentStatus:
    """Return how ``environment`` is: its newest ``keep.releases`` releases, all that are pinned or have instances.

    The newest comes first. ``named``: with how an engine calls the members of instances.
    """
    provider = workspace.provider(environment.settings.provider)
    snapshot = observe(workspace.ledger, provider, environment.id, whole=True)
    releases = _shown(workspace, snapshot)
    members = _members(provider, snapshot) if named else {}
    router = snapshot.router_plan is not None or bool(snapshot.unmade)
    percents = _percents(snapshot, releases)
    configuration = snapshot.active.configuration if snapshot.active is not None else None
    names, edge = environment.settings.names.only(environment.names.held), _edge(workspace)
    inside = _inside(workspace, environment)
    taken, taken_unknown = _taken(workspace, provider, environment)
    return EnvironmentStatus(
        environment=environment.id,
        listen=environment.settings.all_listen,
        names=reached_at(names, edge),
        doors={} if configuration is None else doors_reached(environment.settings, configuration, names, edge, inside),
        active=environment.active,
        unfinished=environment.rollout.target if environment.rollout else None,
        router=router,
        in_its_way=None if router else _in_its_way(provider, snapshot),
        destroying=environment.destroying,
        releases=tuple(
            _release(snapshot, release, percents[number], members)
            for number, release in sorted(releases.items(), reverse=True)
        ),
        rollout=_rollout(snapshot),
        alarm=environment.alarm,
        agent=agent_pid(workspace),
        in_charge=agent_in_charge(workspace, provider.traits),
        worked_on_by=who_acts_on(workspace, environment.id),
        layers=guarantee(workspace, environment.id, provider.traits),
        maintenance=provider.maintains is not None and provider.maintains.maintenance(environment.id),
        internal=environment.settings.internal,
        inner_name=inside.get(""),
        uses=() if configuration is None else uses_status(workspace, environment.settings.provider, configuration),
        shut=(*_shut(snapshot.active, environment.settings), *snapshot.unmade),
        circle=() if configuration is None else circle(workspace, environment.id, configuration.uses),
        unanswered=tuple(_unanswered(snapshot)),
        taken=taken,
        taken_unknown=taken_unknown,
    )


def _shut(active: Release | None, settings: Settings) -> Iterator[str]:
    if active is not None:
        yield from door_warnings(settings, active.configuration, active.number)


def _inside(workspace: Workspace, environment: EnvironmentState) -> Mapping[str, str]:
    """Return the names of what is internal, by door."""
    internal = ([FIRST_DOOR] if environment.settings.internal else []) + list(environment.settings.internal_roles)
    return {door: host_inside(workspace, environment, door or None) for door in internal}


def _shown(workspace: Workspace, snapshot: Snapshot) -> Mapping[int, Release]:
    environment = snapshot.environment
    newest = workspace.ledger.releases(environment.id, last=environment.settings.keep.releases)
    pinned = workspace.ledger.pinned(environment.id)
    return {release.number: release for release in (*newest, *pinned)} | dict(snapshot.releases)


def _in_its_way(provider: Provider, snapshot: Snapshot) -> str | None:
    """Return what keeps the router from running here, such as another process that has its port."""
    active, settings = snapshot.active, snapshot.environment.settings
    if active is None or not settings.is_reached or not provider.traits.of_one_machine:
        return None
    try:
        preflight(provider, snapshot.environment.id, settings, active.configuration, launching=False)
    except Cancelled:
        raise
    except InstarError as error:  # whatever it is, the rest of the status is told too
        return f"{error.message}; {error.hint}" if error.hint else error.message
    return None


def _unanswered(snapshot: Snapshot) -> Iterator[str]:
    """Yield the roles of the active release that no instance is well of, nor one of the release that follows it."""
    serving = (*snapshot.of(snapshot.active), *snapshot.of(snapshot.target))
    for role in snapshot.active.services if snapshot.active is not None else ():
        if not any(group.answering for group in serving if group.role == role):
            yield role


def _taken(workspace: Workspace, provider: Provider, state: EnvironmentState) -> tuple[tuple[Finding, ...], str | None]:
    """Return who else takes requests for its names, unless a rule of the environment expects that; and why nobody can
    tell, where the engine does not answer that now, or not of everybody."""
    if provider.inspects is None or state.active is None:
        return (), None
    try:
        taken = provider.inspects.taken_names(state.id)
    except ProviderError as error:
        if error.retry_after_s is None:
            raise
        return (), error.message
    today, rules = workspace.ledger.now().date(), state.settings.drift.ignore
    found = tuple(one for one in taken.found if find_rule(one, rules, today) is None)
    return found, taken.unseen


def _edge(workspace: Workspace) -> EdgeSettings:
    return (workspace.machine_settings or MachineSettings()).edge


def doors_reached(
    settings: Settings,
    configuration: Configuration,
    names: HostNames,
    edge: EdgeSettings,
    inside: Mapping[str, str],
) -> Mapping[str, tuple[str, ...]]:
    """Return where each door is reached, as the author names it, the first one's first; none of what has no port, as a
    release from before there was a role has not. ``inside``: the names of what is internal, by door."""
    first, shut = written(configuration.first_role), {key for key, *_ in without_ports(settings, configuration)}
    own = Door(
        listen=(*settings.listen, *([inside[FIRST_DOOR]] if FIRST_DOOR in inside else [])), sites=settings.first_sites
    )
    doors = {first: own} | {
        f"{first}{key}" if key.startswith(".") else key: door
        for key, door in sorted(settings.doors.items())
        if key not in shut
    }
    found = {
        name: (*door.listen, *reached_at(names.only(door.sites), edge), *([inside[name]] if name in inside else []))
        for name, door in doors.items()
    }
    return {name: where for name, where in found.items() if where}


def reached_at(names: HostNames, edge: EdgeSettings) -> tuple[str, ...]:
    """Return where each name is reached, as a browser has it."""
    secure = {*names.https, *(source for source in names.redirect if source in names.secure_hosts)}
    http, https = (each[0].rpartition(":")[2] for each in (edge.http_addresses, edge.https_addresses))
    ports = {"http": "" if http == "80" else f":{http}", "https": "" if https == "443" else f":{https}"}

    def address(site: str) -> str:
        (host, slash, path), scheme = site.partition("/"), "https" if site in secure else "http"
        return f"{scheme}://{host}{ports[scheme]}{slash}{path}"

    return tuple(map(address, names.sites))


def _percents(snapshot: Snapshot, releases: Mapping[int, Release]) -> Mapping[int, int]:
    """Return shares in whole percent that are 100 together, unless nothing has any weight."""
    weights = {number: sum(group.weight for group in snapshot.of(one)) for number, one in releases.items()}
    total = sum(weights.values())
    if not total:
        return dict.fromkeys(weights, 0)
    exact = {number: 100 * weight / total for number, weight in weights.items()}
    whole = {number: int(share) for number, share in exact.items()}
    nearest = sorted(exact, key=lambda number: whole[number] - exact[number])
    for number in nearest[: 100 - sum(whole.values())]:
        whole[number] += 1
    return whole


def _rollout(snapshot: Snapshot) -> RolloutStatus | None:
    state = snapshot.environment
    rollout, policy = state.rollout, state.settings.rollout
    if rollout is None:
        return None
    first = snapshot.releases[rollout.target].role
    strategy = "blue-green" if rollout.stage.data else policy.strategy
    batches = -(-state.settings.of_role(first).instances // policy.batch)
    return RolloutStatus(
        release=rollout.target,
        kind=rollout.kind,
        strategy=strategy,
        actor=rollout.actor,
        started_at=rollout.started_at,
        step=rollout.stage.step,
        steps=len(policy.steps) if strategy == "canary" else batches - 1 if strategy == "rolling" else 0,
        percent=100 if state.active == rollout.target else rollout.stage.percent or 0,
        paused=waits_for_somebody(state),
        verdict=rollout.stage.verdict,
        awaited=awaited(snapshot),
        data=rollout.stage.data,
    )


def _members(provider: Provider, snapshot: Snapshot) -> Mapping[str, tuple[str, ...]]:
    """Return how the engine calls the members of each instance."""
    found: dict[str, list[str]] = {}
    there = {group.id for group in snapshot.groups}
    members = () if provider.members is None or not there else provider.members.members(snapshot.environment.id)
    for one in members:
        if one.group in there and one.serves:
            found.setdefault(one.group, []).append(one.name)
    return {group: tuple(sorted(names)) for group, names in found.items()}


def _release(
    snapshot: Snapshot, release: Release, weight: int, members: Mapping[str, tuple[str, ...]]
) -> ReleaseStatus:
    groups = snapshot.of(release)
    return ReleaseStatus(
        number=release.number,
        image=release.image,
        config=release.configuration.digest,
        weight=weight,
        state=_state(snapshot, release, groups),
        instances=tuple(_instance(group, members.get(group.id, ())) for group in groups),
        pinned=release.pinned,
        origin=release.origin,
    )


def _state(snapshot: Snapshot, release: Release, groups: tuple[GroupView, ...]) -> str:
    environment = snapshot.environment
    if release.number == environment.active:
        return "active"
    if environment.rollout is not None and environment.rollout.target == release.number:
        return "candidate"
    if any(group.sessions for group in groups):
        return "draining"
    if not release.ran_well:
        return "failed"
    return "hot" if any(group.state in ("running", "created") for group in groups) else "stopped"


def _reason(group: GroupView) -> str | None:
    """Return why it isn't well, where that is known."""
    if group.state == "dead":
        return why_ended(group)
    if group.probe is None:
        return group.observed.reason if group.state == "running" else None
    return group.probe.cause if not group.probe.healthy else None


def _instance(group: GroupView, members: tuple[str, ...]) -> InstanceStatus:
    healthy = group.probe.healthy if group.probe else group.routed.up if group.routed else None
    healthy = healthy if group.observed.ready is None else group.healthy
    return InstanceStatus(
        id=group.id,
        state=group.state,
        healthy=healthy if group.state == "running" else None if group.state == "created" else False,
        address=group.observed.address or "",
        started_at=group.instance.started_at,
        reason=_reason(group),
        members=group.instance.members,
        ready=group.observed.ready,
        role=group.role,
        member_names=members,
        taint=_taint(group),
        tainted_members=tuple(_member(one) for one in group.instance.tainted_members),
    )


def _member(found: MemberTaint) -> MemberStatus:
    taint = TaintStatus(kind=found.kind, why=found.why, due_at=found.due_at, isolated=False)
    return MemberStatus(name=found.member, taint=taint, aside_at=found.aside_at)


def _taint(group: GroupView) -> TaintStatus | None:
    found = group.instance.taint
    if found is None:
        return None
    return TaintStatus(kind=found.kind, why=found.why, due_at=found.due_at, isolated=found.isolated)
