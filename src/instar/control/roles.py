"""Each role of an environment's releases, looked at alone: what holds of a release with one role holds of each. Pure.

The first role is the one whose door is the environment's first: of each release its own, whatever it is called. The
others are told apart by their names; of a release that has not a role, no groups of it are wanted. Requests go to one
of them where a door of its own leads there: without one it is as if it had no port.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

from instar.control.actions import Action, Wait
from instar.control.snapshot import Snapshot, routed, with_left_doors
from instar.model.definition import Health, Service
from instar.model.release import Release
from instar.providers.doors import roles_of
from instar.providers.router_plan import RouterPlan

_NOTHING = Service(command=(), health=Health(kind="none"))


def by_role(snapshot: Snapshot) -> tuple[Snapshot, ...]:
    """Return the first role alone, and then each of the others. The snapshot itself where no release has others."""
    if snapshot.whole is not None:
        return by_role(snapshot.whole)
    names = {name for release in snapshot.releases.values() for name in release.configuration.roles}
    if not names:
        return (snapshot,)
    open_ = roles_of(with_left_doors(snapshot.environment, by_name=snapshot.traits.passes_names))
    first = _alone(snapshot, lambda release: release.role, is_open=True)
    others = (_alone(snapshot, _other(name), is_open=name in open_) for name in sorted(names))
    return (first, *(dataclasses.replace(one, previewed={}, previewed_beside=None) for one in others))


def is_first(snapshot: Snapshot, release: Release) -> bool:
    """Tell whether this is the first role of ``release``, or all that there is."""
    return snapshot.whole is None or snapshot.whole.releases[release.number].role == release.role


def role_of(snapshot: Snapshot) -> str | None:
    """Return the role that is looked at alone while a rollout runs, where its release has several with traffic."""
    rollout = snapshot.environment.rollout
    if rollout is None or snapshot.whole is None:
        return None
    several = sum(routed(one.releases[rollout.target]) for one in by_role(snapshot)) > 1
    return snapshot.releases[rollout.target].role if several else None


def held_alone(snapshot: Snapshot) -> set[str]:
    """Return the roles, of several, that run in one release at a time, in the one that a rollout is from or to."""
    if snapshot.environment.rollout is None:
        return set()
    both = [one for one in (snapshot.source, snapshot.target) if one is not None]
    return {role for one in both for role, service in one.services.items() if service.exclusive}


def without_traffic(snapshot: Snapshot, weights: Mapping[str, int]) -> set[str]:
    """Return the roles that have traffic, and by ``weights`` will have none."""
    return {group.role for group in snapshot.groups if group.weight} - {
        group.role for group in snapshot.groups if weights.get(group.id)
    }


def previewed_beside(snapshot: Snapshot, plan: RouterPlan, release: int) -> tuple[tuple[int, str], ...]:
    """Return which groups requests for ``release`` can go to by the doors of its other roles, where ``plan`` says that
    one can ask there: one that the router knows of each, and has answered for."""
    shown = list[tuple[int, str]]()
    for one in by_role(snapshot)[1:]:
        asked = routed(one.releases[release]) and one.releases[release].role in plan.previewed_roles
        known = (group.id for group in one.of(one.releases[release]) if group.routed is not None and group.up)
        name = next(known, None) if asked else None
        shown += [] if name is None else [(release, name)]
    return tuple(shown)


def names_by_release(named: Sequence[tuple[int, str]]) -> Mapping[int, tuple[str, ...]]:
    return {release: tuple(sorted(name for number, name in named if number == release)) for release, _ in named}


def together(parts: Iterable[tuple[Action, ...]]) -> tuple[Action, ...]:
    """Return what is to be done for several roles at once; they wait only when there is nothing to do for any."""
    each = list(parts)
    if len(each) == 1:
        return each[0]
    every = [action for actions in each for action in actions]
    now = tuple(dict.fromkeys(action for action in every if not isinstance(action, Wait)))
    waits = [action for action in every if isinstance(action, Wait)]
    if now or not waits:
        return now
    seconds = min(wait.seconds for wait in waits)
    ends, last, launches = (all(getattr(wait, name) for wait in waits) for name in ("ends", "last", "launches"))
    return (Wait(seconds, ends=ends, last=last, launches=launches),)


def starts_before(snapshot: Snapshot, release: Release) -> bool:
    """Tell whether another role of ``release`` starts before the traffic of the first one moves: it has some itself,
    somebody said so, what it runs first takes a volume that only one release may have at a time, such a one is kept
    before, or one of its volumes is restored, which is given back until the traffic has moved."""
    service, rollout = release.service, snapshot.environment.rollout
    if routed(release):
        return True
    inside = any(volume.access == "exclusive" for task in service.before for volume in service.volumes_of(task))
    inside = inside or any(volume.access == "exclusive" and volume.snapshot for volume in service.volumes)
    inside = inside or (rollout is not None and any(volume.name in rollout.stage.data for volume in service.volumes))
    return inside or snapshot.environment.settings.when(release.role) == "before"


def _other(name: str) -> Callable[[Release], str | None]:
    return lambda release: name if name in release.configuration.roles else None


def _alone(snapshot: Snapshot, role_of: Callable[[Release], str | None], *, is_open: bool) -> Snapshot:
    roles = {number: role_of(release) for number, release in snapshot.releases.items()}
    layouts = {number: () if role is None else _layout(snapshot, number, role) for number, role in roles.items()}
    active = roles.get(snapshot.environment.active or 0)
    return dataclasses.replace(
        snapshot,
        releases={
            number: _with(release, roles[number], is_open=is_open) for number, release in snapshot.releases.items()
        },
        groups=tuple(group for group in snapshot.groups if group.role == roles[group.release]),
        layouts={number: layout for number, layout in layouts.items() if layout is not None},
        owed=snapshot.role_owed.get(active or "", snapshot.owed),
        whole=snapshot,
    )


def _layout(snapshot: Snapshot, release: int, role: str) -> tuple[int, ...] | None:
    return snapshot.role_layouts.get((release, role), snapshot.layouts.get(release))


def _with(release: Release, role: str | None, *, is_open: bool) -> Release:
    found = release if role is None else release.of_role(role)
    service, configuration = found.service, found.configuration
    if role is None:
        configuration = dataclasses.replace(configuration, service=_NOTHING, role=None, roles={})
    elif service.port is not None and not is_open:
        configuration = dataclasses.replace(configuration, service=dataclasses.replace(service, port=None))
    return found if configuration is found.configuration else dataclasses.replace(found, configuration=configuration)
