"""Put together a :class:`Snapshot` from the ledger and one look of the provider's. Changes nothing."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from instar.control.replace import counted_for
from instar.control.snapshot import GroupView, Probation, Snapshot, settings_for
from instar.ledger import Ledger
from instar.ledger.roles import release_of
from instar.model.release import FALLEN, Ending, EnvironmentId, EnvironmentState, Instance, Release
from instar.providers.base import NetworkPlan, Observed, Probe, Provider, Routed, Traffic
from instar.threads import at_once

_PROBES_AT_ONCE = 16
_JUST_BEFORE = timedelta(minutes=2)  # an ending is seen before its successor is planned, by a pause at most


def observe(
    ledger: Ledger,
    provider: Provider,
    environment_id: EnvironmentId,
    *,
    replacing: bool = False,
    whole: bool = False,
    is_attended: Callable[[str], bool] = lambda instance: True,
) -> Snapshot:
    """Return ``environment_id`` as it is wanted and as it is. Probes the groups whose health a decision can hang on.

    ``replacing``: say too which replacements were needed lately, since nobody asked for one just now. ``whole``: probe
    every group of which the router does not say that it is well. So is done where somebody looks on and nothing moves.
    ``is_attended`` tells whether somebody waits for the end of an instance that runs their command.
    """
    environment = ledger.get_environment(environment_id)
    whole = whole or (replacing and environment.rollout is None)
    instances = ledger.instances(environment_id)
    probation = _probation(ledger, environment)
    releases = _releases(ledger, environment, instances, probation)
    seen = provider.observe(environment_id, instances)
    observed, routed = _settled(ledger, provider, instances, seen.groups), seen.traffic.groups
    asked = _to_ask(environment, instances, observed, seen.traffic, whole=whole)
    probes = _probe(provider, asked, releases)
    groups, rollout, now = _views(instances, observed, probes, routed), environment.rollout, ledger.now()
    failures = _failures(ledger, environment, releases, now) if replacing else None
    snapshot = Snapshot(
        now=now,
        environment=environment,
        releases=releases,
        groups=tuple(group for group in groups if group.instance.task is None),
        task_groups=tuple(group for group in groups if group.instance.task is not None),
        tasks=ledger.tasks(environment_id, rollout.target) if rollout and _has_tasks(releases[rollout.target]) else (),
        given_tasks=ledger.given_tasks(environment_id) if any(one.command for one in instances) else (),
        attended=frozenset(one.id for one in instances if one.attended and is_attended(one.id)),
        previewed=seen.traffic.previewed,
        previewed_beside=seen.traffic.previewed_beside,
        counts=seen.traffic.counts,
        uncounted=seen.traffic.uncounted,
        failures=failures,
        router_running=seen.traffic.running,
        router_plan=seen.traffic.plan,
        unmade=seen.traffic.unmade,
        settled=seen.traffic.settled,
        endings=_endings(ledger, environment, failures),
        probation=probation,
        rollout_ended_at=_rollout_ended_at(ledger, environment, groups),
        traits=provider.traits,
    )
    is_set = _is_network_set(provider, snapshot)
    return _with_roles(ledger, provider, dataclasses.replace(snapshot, network_is_set=is_set))


def _with_roles(ledger: Ledger, provider: Provider, snapshot: Snapshot) -> Snapshot:
    """Return it with how many groups are wanted of each role of each release, and are owed of the active one's."""
    environment, releases = snapshot.environment, snapshot.releases
    by_role = _layouts(provider, environment, releases)
    owed = _owed(ledger, environment, releases, snapshot.groups, by_role)
    return dataclasses.replace(
        snapshot,
        owed=next(iter(owed.values()), None),
        layouts={
            number: tuple(one for role in found.services for one in by_role[number, role])
            for number, found in releases.items()
        },
        role_layouts=by_role if any(len(one.services) > 1 for one in releases.values()) else {},
        role_owed=owed if len(owed) > 1 else {},
    )


def _releases(
    ledger: Ledger, environment: EnvironmentState, instances: Sequence[Instance], probation: Probation | None
) -> Mapping[int, Release]:
    environment_id = environment.id
    found = {release.number: release for release in ledger.recent(environment_id, environment.settings.keep.hot + 1)}
    numbers: set[int | None] = {instance.release for instance in instances}
    numbers |= {environment.active, probation.source if probation is not None else None}
    if environment.rollout is not None:
        numbers |= {environment.rollout.target, environment.rollout.source}
    for number in numbers - found.keys() - {None}:
        assert number is not None
        found[number] = ledger.get_release(environment_id, number)
    for instance in instances:
        release_of(instance, found[instance.release])
    return found


def _settled(
    ledger: Ledger, provider: Provider, instances: Sequence[Instance], seen: Sequence[Observed]
) -> Sequence[Observed]:
    """Return what was ``seen``, but for what was begun so lately that a look may not show it yet: that runs."""
    if not provider.traits.unseen_s:
        return seen
    seen_until = ledger.now() - timedelta(seconds=provider.traits.unseen_s)
    return [
        dataclasses.replace(one, state="running", ready=0) if _is_unseen(instance, one, seen_until) else one
        for instance, one in zip(instances, seen, strict=True)
    ]


def _is_unseen(instance: Instance, seen: Observed, seen_until: datetime) -> bool:
    began = instance.started_at
    return seen.state == "absent" and instance.ending is None and began is not None and began > seen_until


def _is_network_set(provider: Provider, snapshot: Snapshot) -> bool:
    """Tell whether instances reach what the settings say, and what their releases use; so it is for a provider that
    has no say in it."""
    environment = snapshot.environment
    wanted = NetworkPlan.of(environment.id, environment.settings, snapshot.with_instances)
    return provider.networks is None or provider.networks.network_plan(environment.id) == wanted


def _has_tasks(release: Release) -> bool:
    return any(service.before or service.after for service in release.services.values())


def _failures(
    ledger: Ledger, environment: EnvironmentState, releases: Mapping[int, Release], now: datetime
) -> tuple[datetime, ...]:
    if environment.active is None:
        return ()
    policy = environment.settings.replace
    since = now - counted_for(policy, releases[environment.active])
    since = max(since, environment.counted_since or since)
    return ledger.replacements(environment.id, environment.active, since, policy.max_age_ms)


def _layouts(
    provider: Provider, environment: EnvironmentState, releases: Mapping[int, Release]
) -> Mapping[tuple[int, str], tuple[int, ...]]:
    """Return the sizes of the groups that are wanted of each role of each release."""
    return {
        (number, role): provider.layout(settings_for(environment, number).of_role(role), service)
        for number, release in releases.items()
        for role, service in release.services.items()
    }


def _owed(
    ledger: Ledger,
    environment: EnvironmentState,
    releases: Mapping[int, Release],
    groups: Sequence[GroupView],
    layouts: Mapping[tuple[int, str], tuple[int, ...]],
) -> Mapping[str, int | None]:
    """Return how many groups of each role of the active release have no successor yet; None while none are missing."""
    active = environment.active
    if active is None:
        return {}
    live = Counter(one.role for one in groups if one.release == active and one.lives)
    return {
        role: ledger.owed(environment.id, active, role) if live[role] < len(layouts[active, role]) else None
        for role in releases[active].services
    }


def _rollout_ended_at(ledger: Ledger, environment: EnvironmentState, groups: Sequence[GroupView]) -> datetime | None:
    """Return when the last rollout ended, where a time to drain may have begun with it that nothing else tells of."""
    left = [one for one in groups if one.release != environment.active and one.routed is not None]
    if environment.rollout is not None or all(one.sessions is not None for one in left):
        return None
    last = ledger.last_rollout(environment.id)
    return None if last is None else last.ended_at


def _probation(ledger: Ledger, environment: EnvironmentState) -> Probation | None:
    """Return how long the active release is watched yet, and how it did; None when it isn't any more, or never was."""
    watch_ms, active = environment.settings.rollout.watch_ms, environment.active
    if watch_ms is None or active is None or environment.rollout is not None:
        return None
    last = ledger.last_rollout(environment.id)
    if last is None or last.ended_at is None or (last.target, last.state) != (active, "done"):
        return None
    until = last.ended_at + timedelta(milliseconds=watch_ms)
    if last.kind == "rollback" or last.source is None or ledger.now() >= until:
        return None
    since = max(last.ended_at, environment.counted_since or last.ended_at)
    endings = tuple(one for one in ledger.endings(environment.id, active, since) if one.reason in FALLEN)
    return Probation(source=last.source, until=until, endings=endings, restored=tuple(last.stage.data))


def _endings(
    ledger: Ledger, environment: EnvironmentState, failures: tuple[datetime, ...] | None
) -> tuple[Ending, ...]:
    """Return how groups of the active release ended since the first that was replaced lately."""
    if environment.active is None or not failures:
        return ()
    found = ledger.endings(environment.id, environment.active, failures[0] - _JUST_BEFORE)
    return tuple(one for one in found if one.reason != "instar")


def _to_ask(
    environment: EnvironmentState,
    instances: Sequence[Instance],
    observed: Sequence[Observed],
    traffic: Traffic,
    *,
    whole: bool,
) -> Sequence[Instance]:
    """Return those to ask how they are: they run, and the engine itself does not know."""
    routed = {name: one for name, one in traffic.groups.items() if name not in traffic.unanswered}
    unknown = (
        one for one, seen in zip(instances, observed, strict=True) if seen.state == "running" and seen.ready is None
    )
    return [one for one in unknown if _matters(environment, one, routed.get(one.id), whole)]


def _matters(environment: EnvironmentState, instance: Instance, routed: Routed | None, whole: bool) -> bool:
    """Tell whether a decision can hang on its health: it should serve and doesn't. (What serves is watched by the
    router itself.)"""
    target = environment.rollout.target if environment.rollout else None
    if instance.task is not None:
        return False
    if instance.release not in (environment.active, target):
        return whole and not (routed and routed.up)
    return not (routed and routed.weight and routed.up)


def _probe(provider: Provider, instances: Sequence[Instance], releases: Mapping[int, Release]) -> Mapping[str, Probe]:
    answers = at_once(
        lambda one: provider.ask(one, releases[one.release].of_role(one.role)), instances, at_most=_PROBES_AT_ONCE
    )
    return {one.id: answer for one, answer in zip(instances, answers, strict=True)}


def _views(
    instances: Sequence[Instance],
    observed: Sequence[Observed],
    probes: Mapping[str, Probe],
    routed: Mapping[str, Routed],
) -> tuple[GroupView, ...]:
    return tuple(
        GroupView(instance=one, observed=seen, probe=probes.get(one.id), routed=routed.get(one.id))
        for one, seen in zip(instances, observed, strict=True)
    )
