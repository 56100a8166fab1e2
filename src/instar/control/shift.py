"""Who has the traffic, and who gets it: shares of it as weights, and groups that can take them. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from instar.control.actions import Action, Attach, OpenRouter, Route
from instar.control.launch import is_well
from instar.control.snapshot import GroupView, Snapshot, is_open_for, routed
from instar.model.release import Release

FULL = 100  # the weight of a group of a release that has all traffic, of the one with most members


def whole(groups: Iterable[GroupView]) -> Mapping[str, int]:
    """Return weights that share all traffic among ``groups`` by how many members each has."""
    members = {group.id: group.instance.members for group in groups}
    most = max(members.values(), default=1)
    if most == 1:  # there can be thousands
        return dict.fromkeys(members, FULL)
    return {name: max(1, round(FULL * count / most)) for name, count in members.items()}


def shares(
    percent: int, candidate: Sequence[GroupView], stable: Sequence[GroupView], heaviest: int
) -> Mapping[str, int]:
    """Return weights (1 to ``heaviest``) that give ``candidate`` together ``percent`` of the requests and ``stable``
    the rest, each group by how many members it has.

    Exact where the numbers allow it, else as near as whole weights come. Who has no groups gets nothing.
    """
    if not candidate or not stable or not 0 < percent < 100:
        return whole((candidate or stable) if percent >= 100 else (stable or candidate))
    one, other = percent * _members(stable), (100 - percent) * _members(candidate)
    divisor = math.gcd(one, other)
    one, other = one // divisor, other // divisor
    most = heaviest // max(group.instance.members for group in (*candidate, *stable))
    if max(one, other) > most:
        light, heavy = _nearest(min(one, other), max(one, other), most)
        one, other = (light, heavy) if one < other else (heavy, light)
    weights = {group.id: other * group.instance.members for group in stable}
    return weights | {group.id: one * group.instance.members for group in candidate}


def _members(groups: Iterable[GroupView]) -> int:
    return sum(group.instance.members for group in groups)


def _nearest(small: int, big: int, most: int) -> tuple[int, int]:
    """Return the two weights up to ``most`` whose ratio is nearest to that of ``small`` and ``big``."""
    pairs = [(max(1, round(heavy * small / big)), heavy) for heavy in range(most // 2, most + 1)]
    return min(pairs, key=lambda pair: abs(pair[0] * big - pair[1] * small) / pair[1])


def serving(snapshot: Snapshot, release: Release | None) -> tuple[GroupView, ...]:
    """Return the groups of ``release`` that can have traffic: well ones that the router knows. Isolated ones only
    where there are no others."""
    able = tuple(group for group in snapshot.of(release) if _can_serve(snapshot, group))
    return tuple(group for group in able if not (group.instance.taint and group.instance.taint.isolated)) or able


def serves(snapshot: Snapshot, group: GroupView) -> bool:
    """It does its work: has traffic, or runs where there is none."""
    return bool(group.weight) if routed(snapshot.releases[group.release]) else _runs_well(snapshot, group)


def give_traffic(snapshot: Snapshot, release: Release, groups: tuple[GroupView, ...]) -> tuple[Action, ...]:
    """Return what gives ``groups``, and no others, the traffic of ``release``."""
    if not is_open_for(snapshot, release):
        return (OpenRouter(release.number),)
    unknown = tuple(group.id for group in groups if group.routed is None)
    if unknown:
        return (Attach(release.number, unknown),)
    names = tuple(group.id for group in groups)
    return () if has_traffic(snapshot, groups) else (Route(names),)


def has_traffic(snapshot: Snapshot, groups: Iterable[GroupView]) -> bool:
    """Tell whether exactly ``groups`` have weight, each all of its: another one was given by hand."""
    return has_weights(snapshot, whole(groups))


def has_weights(snapshot: Snapshot, weights: Mapping[str, int]) -> bool:
    """Tell whether exactly these instances have exactly these weights."""
    return {group.id: group.weight for group in snapshot.groups if group.weight} == dict(weights)


def _can_serve(snapshot: Snapshot, group: GroupView) -> bool:
    if not routed(snapshot.releases[group.release]):
        return _runs_well(snapshot, group)
    return group.state == "running" and group.up and group.id not in snapshot.unwell


def _runs_well(snapshot: Snapshot, group: GroupView) -> bool:
    return group.state == "running" and is_well(snapshot, snapshot.releases[group.release], group)
