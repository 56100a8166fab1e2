"""Rows as the values of ``model/release.py`` and its like. What does not read back as it was written is damage."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar

from instar.errors import LedgerDamaged
from instar.model.codec import from_json, parse
from instar.model.configuration import Configuration
from instar.model.digest import Digest
from instar.model.environment import Settings
from instar.model.events import Event
from instar.model.names import NAME
from instar.model.origin import Origin
from instar.model.release import (
    Command,
    Ending,
    EnvironmentId,
    EnvironmentState,
    Instance,
    Maintenance,
    MemberTaint,
    OwnNames,
    Release,
    Rollout,
    Stage,
    Taint,
    TaskRun,
)

Row = Any  # sqlite3.Row or a dict: both are read by column name
Check = Callable[[Settings | Configuration | OwnNames], None]  # raises ValueError for what no definition can say
P = ParamSpec("P")
T = TypeVar("T")
_YEARS = (1970, 9000)
_NUMBER = re.compile(r"[0-9]{1,19}")


def _damage_known(read: Callable[P, T]) -> Callable[P, T]:
    """Wrap what ``read`` raises for a row that is not what was written."""

    @functools.wraps(read)
    def value(*arguments: P.args, **named: P.kwargs) -> T:
        try:
            return read(*arguments, **named)
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
            noun = read.__name__.removesuffix("s").removesuffix("_value")
            raise LedgerDamaged(
                f"cannot read '{noun}' in the ledger: it is damaged: {error}",
                hint="see what else is not as it was written: instar history --verify",
            ) from error

    return value


def held_against(check: Check, of: str, *values: Settings | Configuration | OwnNames) -> None:
    """Raise LedgerDamaged where one of ``values`` of SERVICE/ENV ``of`` is none that ``check`` lets pass."""
    try:
        for value in values:
            check(value)
    except ValueError as error:
        raise LedgerDamaged(
            f"cannot go by what the ledger says of '{of}': no definition can say so: {error}",
            hint=f"whoever can write the ledger wrote it: see who has its role, and instar history {of}",
        ) from error


def time_text(at: datetime) -> str:
    """Return an aware time as the ledger writes it."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


@_damage_known
def time_value(text: str) -> datetime:
    """Return an aware time that :func:`time_text` has written."""
    return _time(text)


@_damage_known
def event_value(row: Row) -> Event:
    try:
        return _event(row)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"number {row['seq']}: {error}") from error


def _event(row: Row) -> Event:
    detail = parse(row["detail"])
    if not isinstance(detail, dict):
        raise TypeError("its detail is no object of JSON's")
    return Event(
        seq=row["seq"],
        at=_time(row["at"]),
        actor=row["actor"],
        kind=row["kind"],
        environment=_place(row["place"]) if row["place"] else None,
        release=row["release"],
        image=Digest(row["image"]) if row["image"] else None,
        detail=detail,
        hash=row["hash"],
    )


@_damage_known
def state_value(row: Row) -> EnvironmentState:
    """``row`` has the columns of environments, its settings, and those of its running rollout."""
    try:
        return _state(row, environment_id(row["service"], row["environment"]))
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"'{row['service']}/{row['environment']}': {error}") from error


def _state(row: Row, environment: EnvironmentId) -> EnvironmentState:
    settings = _settings(row["settings"])
    return EnvironmentState(
        id=environment,
        settings=settings,
        active=row["active"],
        created_at=_time(row["created_at"]),
        rollout=rollout_value(row, environment) if row["rollout_id"] is not None else None,
        destroying=bool(row["destroying"]),
        alarm=row["alarm"],
        project=row["project"],
        machine=row["machine"],
        names=_own_names(row["names"], settings),
        maintenance=maintenance_value(row["maintenance"]),
        counted_since=_time_or_none(row["counted_since"]),
        alarm_holds=bool(row["alarm_holds"]),
    )


@_damage_known
def provider_value(row: Row) -> str:
    """``row`` has an environment's settings."""
    return _settings(row["settings"]).provider


@functools.lru_cache(maxsize=64)
def _settings(text: str) -> Settings:
    """Who looks again and again reads the same text."""
    return from_json(Settings, parse(text))


def _own_names(text: str | None, settings: Settings) -> OwnNames:
    """Return which names are an environment's: all that its settings say, unless that was written down otherwise."""
    return OwnNames(held=settings.names.sites) if text is None else from_json(OwnNames, parse(text))


def maintenance_value(text: str | None) -> Maintenance:
    return Maintenance() if text is None else from_json(Maintenance, parse(text))


@_damage_known
def release_value(row: Row, environment: EnvironmentId) -> Release:
    try:
        configuration = _configuration(row["configuration"], row["configuration_digest"])
    except ValueError as error:
        raise ValueError(f"number {row['number']} of '{environment}': {error}") from error
    return Release(
        environment=environment,
        number=row["number"],
        image=Digest(row["image"]),
        configuration=configuration,
        created_at=_time(row["created_at"]),
        ran_well=bool(row["ran_well"]),
        last_active_at=_time_or_none(row["last_active_at"]),
        pinned=bool(row["pinned"]),
        origin=_origin(row["origin"]),
    )


def _origin(text: str | None) -> Origin | None:
    """Return where a release comes from. It is shown, so what would move a terminal's cursor is none."""
    if text is None:
        return None
    origin: Origin = from_json(Origin, parse(text))
    commit, promoted = origin.commit, origin.promoted
    words = (origin.by, origin.machine, origin.message, commit and commit.id, commit and commit.branch)
    if not all(word.isprintable() for word in (*words, promoted and promoted.environment) if word):
        raise ValueError("where it comes from has characters that nobody can read")
    return origin


@_damage_known
def rollout_value(row: Row, environment: EnvironmentId | None = None) -> Rollout:
    """``row`` has the columns of rollouts, its id as ``rollout_id``, and ``environment`` where that is not given."""
    return Rollout(
        id=row["rollout_id"],
        environment=environment or environment_id(*row["place"].split("/", 1)),
        kind=row["kind"],
        source=row["source"],
        target=row["target"],
        state=row["state"],
        actor=row["actor"],
        started_at=_time(row["started_at"]),
        ended_at=_time_or_none(row["ended_at"]),
        detail=parse(row["detail"]),
        stage=from_json(Stage, parse(row["stage"])),
    )


@_damage_known
def task_value(row: Row) -> TaskRun:
    return TaskRun(
        name=row["name"],
        instance=row["instance"],
        began_at=_time(row["began_at"]),
        ended_at=_time_or_none(row["ended_at"]),
        outcome=row["outcome"],
    )


INSTANCE = """
    i.id, i.serial, i.release, i.created_at, i.made, i.started_at, i.task, i.replacing, i.taint, i.ending, i.ended_at,
    i.members, i.role, i.tainted_members, i.command"""


@_damage_known
def instance_values(rows: Iterable[Row], environment: EnvironmentId) -> tuple[Instance, ...]:
    """``rows`` have the columns of ``INSTANCE``."""
    return tuple(_instance(environment, *row) for row in rows)


@_damage_known
def instance_value(row: Row) -> Instance:
    """``row`` begins with the columns of ``INSTANCE``, and has ``environment``."""
    return _instance(environment_id(*row["place"].split("/", 1)), *tuple(row)[: INSTANCE.count(",") + 1])


@functools.lru_cache(maxsize=1 << 14)  # one and the same is read at every look
def _instance(
    environment: EnvironmentId,
    name: str,
    serial: int,
    release: int,
    created: str,
    made: int,
    started: str | None,
    task: str | None,
    replacing: str | None,
    taint: str | None,
    ending: str | None,
    ended_at: str | None,
    members: int,
    role: str,
    tainted_members: str | None,
    command: str | None,
) -> Instance:
    """Take columns by their order: there can be thousands of rows, and names take longer."""
    return Instance(
        id=_instance_id(name, environment),
        serial=serial,
        environment=environment,
        release=release,
        created_at=_time(created),
        made=bool(made),
        started_at=_time(started) if started else None,
        task=task,
        replacing=replacing,
        taint=from_json(Taint, parse(taint)) if taint else None,
        ending=_ending(ending, ended_at),
        members=members,
        role=role,
        tainted_members=tuple(from_json(MemberTaint, one) for one in parse(tainted_members)) if tainted_members else (),
        command=from_json(Command, parse(command)) if command else None,
    )


def _ending(text: str | None, at: str | None) -> Ending | None:
    return None if text is None else from_json(Ending, {**parse(text), "at": at})


@_damage_known
def ending_value(row: Row) -> Ending:
    """``row`` has an instance's ``ending`` and ``ended_at``."""
    found = _ending(row["ending"], row["ended_at"])
    assert found is not None
    return found


@_damage_known
def record_value(row: Row) -> Mapping[str, Any]:
    """``row`` has the ``value`` of what a provider takes over."""
    return dict(parse(row["value"]))


def _time(text: str) -> datetime:
    """Raises ValueError for what is no aware time of the years in which one can count on."""
    found = datetime.fromisoformat(text)
    if found.tzinfo is None or not _YEARS[0] <= found.year < _YEARS[1]:
        raise ValueError(f"{text:.40} is no time that Instar has written")
    return found


def _time_or_none(text: str | None) -> datetime | None:
    return None if text is None else _time(text)


@functools.lru_cache(maxsize=256)
def _place(text: str) -> EnvironmentId:
    service, _, environment = text.partition("/")
    return EnvironmentId(service=service, name=environment)


@functools.lru_cache(maxsize=256)
def environment_id(service: str, environment: str) -> EnvironmentId:
    """Return who an environment is: its names become parts of paths. Raises ValueError for what no definition says."""
    for name in (service, environment):
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r:.60} is no name of a service or an environment")
    return EnvironmentId(service=service, name=environment)


@_damage_known
def environment_value(row: Row) -> EnvironmentId:
    """``row`` has ``service`` and ``environment``."""
    return environment_id(row["service"], row["environment"])


@_damage_known
def instance_id_value(row: Row, environment: EnvironmentId) -> str:
    """``row`` has the ``id`` of an instance of ``environment``: it becomes a part of paths."""
    return _instance_id(row["id"], environment)


def _instance_id(name: str, environment: EnvironmentId) -> str:
    release, _, k = name.removeprefix(f"{environment.service}-{environment.name}-").partition("-")
    if not (_NUMBER.fullmatch(release) and _NUMBER.fullmatch(k)):
        raise ValueError(f"{name!r:.90} is no instance of '{environment}'")
    return name


@functools.lru_cache(maxsize=256)  # most releases share a configuration with the one before
def _configuration(text: str, digest: str) -> Configuration:
    """Raises ValueError when ``text`` is not what ``digest`` names."""
    if Digest.of(text.encode()) != digest:
        raise ValueError(f"its configuration does not have the digest {digest}")
    return from_json(Configuration, parse(text))
