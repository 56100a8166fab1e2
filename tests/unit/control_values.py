"""Snapshots made by hand, for tests of decisions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from instar.control.snapshot import GroupView, Snapshot, wanted_plan
from instar.model.configuration import Configuration
from instar.model.definition import Health, Service, Volume
from instar.model.digest import Digest
from instar.model.environment import Keep, Replace, Settings
from instar.model.environment import RolloutRules as Policy
from instar.model.release import (
    EnvironmentId,
    EnvironmentState,
    Instance,
    Release,
    Rollout,
    RolloutKind,
    Served,
    Stage,
    Taint,
    TaintKind,
)
from instar.providers.base import Observed, Probe
from instar.providers.router_state import RoutedTarget, Target

ENV = EnvironmentId(service="shop", name="production")
NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
HTTP = Service(command=("serve",), port=8080, health=Health(kind="http", path="/healthz"))
WORKER = Service(command=("work",), health=Health(kind="none"))
NOTHING, BLUE_GREEN, USUAL, BEGUN = Served(), Policy(), Replace(), Stage()
DATABASE = dataclasses.replace(HTTP, volumes=(Volume(name="data", path="/data", access="exclusive"),))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Uncounted:
    """A group in the traffic, of whose requests nobody knows."""

    weight: int
    up: bool
    sessions: None = None
    served: None = None


def tainted(kind: TaintKind = "person", *, due_in_s: float = -1, isolated: bool = False) -> Taint:
    due_at = NOW + timedelta(seconds=due_in_s)
    return Taint(kind=kind, why="a look", actor="ann", at=ago(5), due_at=due_at, isolated=isolated)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def release(number: int, service: Service = HTTP, *, ran_well: bool = False, last: int | None = None) -> Release:
    return Release(
        environment=ENV,
        number=number,
        image=Digest.of(str(number).encode()),
        configuration=Configuration(service=service),
        created_at=NOW,
        ran_well=ran_well,
        last_active_at=ago(last) if last is not None else None,
    )


def release_with(number: int, first: str | None, roles: Mapping[str, Service]) -> Release:
    """Return a release of several roles, whose first one speaks HTTP."""
    found = Configuration(service=HTTP, role=first, roles=roles)
    return dataclasses.replace(release(number), configuration=found)


def begun(target: int, source: int | None, *, kind: RolloutKind = "deploy", stage: Stage = BEGUN) -> Rollout:
    """Return a rollout that began a minute ago."""
    return Rollout(
        id=1,
        environment=ENV,
        kind=kind,
        source=source,
        target=target,
        state="running",
        actor="me",
        started_at=ago(60),
        stage=stage,
    )


def made(name: str, number: int, serial: int, role: str) -> Instance:
    """Return an instance of a role that was made and began nine seconds ago."""
    return Instance(
        id=name,
        serial=serial,
        environment=ENV,
        release=number,
        created_at=ago(9),
        made=True,
        started_at=ago(9),
        role=role,
    )


def address_of(instance: Instance) -> str:
    return f"10.0.{instance.release}.{instance.serial % 10}"


def group(
    number: int,
    state: str = "running",
    *,
    healthy: bool | None = None,
    weight: int | None = None,
    sessions: int | None = 0,
    serial: int = 1,
    age_s: float = 1,
    up: bool = True,
    served: Served = NOTHING,
    task: str | None = None,
    replacing: str | None = None,
    taint: Taint | None = None,
    exit_status: int = 1,
) -> GroupView:
    name = f"shop-production-{number}-{serial}"
    instance = Instance(
        id=name,
        serial=number * 10 + serial,
        environment=ENV,
        release=number,
        created_at=ago(age_s),
        started_at=ago(age_s) if state == "running" else None,
        made=state != "absent",
        task=task,
        replacing=replacing,
        taint=taint,
    )
    routed: RoutedTarget | Uncounted | None = None
    if weight is not None:
        target = Target(name=name, address=address_of(instance), port=8080)
        routed = RoutedTarget(target=target, weight=weight, sessions=sessions or 0, up=up, served=served)
        routed = routed if sessions is not None else Uncounted(weight=weight, up=up)
    return GroupView(
        instance=instance,
        observed=Observed(
            id=name,
            state=state,  # type: ignore[arg-type]
            exit_status=exit_status if state == "stopped" else None,
            address=address_of(instance),
        ),
        probe=None if healthy is None else Probe(healthy=healthy, cause="" if healthy else "GET /healthz answered 500"),
        routed=routed,
    )


def serving(number: int, count: int, **fields: Any) -> list[GroupView]:
    """Return ``count`` groups that share all traffic of a release."""
    return [group(number, weight=100, serial=serial, **fields) for serial in range(1, count + 1)]


def ready(number: int, count: int, **fields: Any) -> list[GroupView]:
    """Return ``count`` healthy groups that the router knows and that have no traffic."""
    return [group(number, healthy=True, weight=0, serial=serial, **fields) for serial in range(1, count + 1)]


def names(groups: Sequence[GroupView]) -> tuple[str, ...]:
    return tuple(one.id for one in groups)


def snapshot(
    releases: list[Release],
    groups: Sequence[GroupView] = (),
    *,
    active: int | None = None,
    target: int | None = None,
    source: int | None = None,
    instances: int = 1,
    hot: int = 1,
    router: bool = True,
    destroying: bool = False,
    kind: RolloutKind = "deploy",
    policy: Policy = BLUE_GREEN,
    replace: Replace = USUAL,
    preview: str | None = None,
    stage: Stage = BEGUN,
    alarm: str | None = None,
    **fields: Any,
) -> Snapshot:
    """Return a snapshot at NOW; its rollout, if there is a ``target``, began a minute ago."""
    rollout = None
    if target is not None:
        rollout = begun(target, source or (active if active != target else None), kind=kind, stage=stage)
    settings = Settings(
        listen=("127.0.0.1:8080",),
        instances=instances,
        rollout=policy,
        keep=Keep(hot=hot),
        preview=preview,
        replace=replace,
    )
    environment = EnvironmentState(
        id=ENV,
        settings=settings,
        active=active,
        created_at=NOW,
        rollout=rollout,
        destroying=destroying,
        alarm=alarm,
    )
    made = Snapshot(
        now=NOW,
        environment=environment,
        releases={one.number: one for one in releases},
        groups=tuple(groups),
        router_running=router,
        **fields,
    )
    served = made.target or made.active
    return dataclasses.replace(made, router_plan=wanted_plan(made, served).fingerprint if router and served else None)
