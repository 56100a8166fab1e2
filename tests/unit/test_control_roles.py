"""Decisions about a release of several roles: what each needs by itself, put together."""

from __future__ import annotations

import dataclasses

import pytest
from control_values import ENV, NOW, WORKER, begun, made, release_with

from instar.control.actions import Plan, Wait
from instar.control.decide import decide
from instar.control.roles import by_role, starts_before, together
from instar.control.snapshot import GroupView, Snapshot
from instar.errors import LedgerDamaged
from instar.ledger.roles import release_of
from instar.model.definition import Service, Task, Volume
from instar.model.environment import RoleSettings, Settings
from instar.model.release import EnvironmentState, Release
from instar.providers.base import Observed

SETTINGS = Settings(
    listen=("127.0.0.1:80",), roles={"web": RoleSettings(instances=1), "worker": RoleSettings(instances=2)}
)
ALONE = dataclasses.replace(WORKER, volumes=(Volume(name="queue", path="/queue"),))


def release(number: int, worker: Service | None = WORKER) -> Release:
    roles = {} if worker is None else {"worker": worker}
    return release_with(number, "web" if roles else None, roles)


def group(number: int, role: str, k: int, state: str = "running") -> GroupView:
    name = f"shop-production-{number}-{k}"
    return GroupView(instance=made(name, number, k, role), observed=Observed(id=name, state=state))  # type: ignore[arg-type]


def snapshot(releases: list[Release], groups: list[GroupView], *, active: int | None, target: int | None) -> Snapshot:
    rollout = None if target is None else begun(target, active)
    state = EnvironmentState(id=ENV, settings=SETTINGS, active=active, created_at=NOW, rollout=rollout)
    return Snapshot(now=NOW, environment=state, releases={one.number: one for one in releases}, groups=tuple(groups))


def test_a_snapshot_of_releases_with_one_role_is_looked_at_as_it_is() -> None:
    whole = snapshot([release(1, None)], [], active=1, target=None)
    assert by_role(whole) == (whole,)


def test_each_role_has_its_own_groups_and_of_a_release_without_it_none_are_wanted() -> None:
    groups = [group(1, "", 1), group(2, "web", 2), group(2, "worker", 3)]
    whole = snapshot([release(1, None), release(2)], groups, active=1, target=2)
    whole = dataclasses.replace(
        whole,
        layouts={1: (1,), 2: (1, 1, 1)},
        role_layouts={(1, ""): (1,), (2, "web"): (1,), (2, "worker"): (1, 1)},
    )
    first, worker = by_role(whole)
    assert [one.id[-3:] for one in first.groups] == ["1-1", "2-2"]
    assert [one.id[-3:] for one in worker.groups] == ["2-3"]
    assert (first.layout(first.releases[1]), first.layout(first.releases[2])) == ((1,), (1,))
    assert (worker.layout(worker.releases[1]), worker.layout(worker.releases[2])) == ((), (1, 1))
    assert worker.releases[2].service == WORKER and worker.releases[2].role == "worker"
    assert by_role(worker)[0].groups == first.groups, "a part knows the whole that it is of"


def test_all_roles_are_launched_together() -> None:
    planned = decide(snapshot([release(1)], [], active=None, target=1))
    assert planned == (Plan(1, (1,), None, "web"), Plan(1, (1, 1), role="worker"))


def test_who_waits_does_not_keep_others_from_what_is_to_be_done() -> None:
    plan = Plan(1, (1,))
    assert together([(Wait(60.0),), (plan,)]) == (plan,)
    assert together([(Wait(60.0, ends=True),), (Wait(2.0),)]) == (Wait(2.0),)
    assert together([(Wait(60.0, ends=True, last=True),)]) == (Wait(60.0, ends=True, last=True),)
    assert together([(plan,), (plan,)]) == (plan,), "both say the same"


@pytest.mark.parametrize(
    ("worker", "when", "expected"),
    [
        (WORKER, "traffic", False),
        (WORKER, "before", True),
        (ALONE, "traffic", False),
        (dataclasses.replace(ALONE, before=(Task(command=("migrate",)),)), "traffic", True),
        (dataclasses.replace(ALONE, before=(Task(command=("look",), volumes=()),)), "traffic", False),
    ],
)
def test_a_role_starts_before_where_that_is_said_or_its_tasks_need_its_volume(
    worker: Service, when: str, expected: bool
) -> None:
    whole = snapshot([release(1, worker)], [], active=None, target=1)
    roles = {"worker": RoleSettings(when=when)}  # type: ignore[arg-type]
    state = dataclasses.replace(whole.environment, settings=dataclasses.replace(SETTINGS, roles=roles))
    _, one = by_role(dataclasses.replace(whole, environment=state))
    assert starts_before(one, one.releases[1]) is expected


def test_a_group_of_a_role_that_its_release_has_not_is_damage() -> None:
    with pytest.raises(LedgerDamaged, match=r"cannot tell how 'shop-production-1-1' runs: .* has no role 'jobs'"):
        release_of(group(1, "jobs", 1).instance, release(1))
