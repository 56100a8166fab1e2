"""Environments: the environments there are, and their settings, version by version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from instar.errors import EnvironmentNotFound, LedgerDamaged, NotFound, Refused
from instar.ledger.events import Events
from instar.ledger.rows import Check, environment_value, held_against, provider_value, state_value
from instar.ledger.session import Row, Session
from instar.model.codec import canonical, parse, to_json
from instar.model.environment import Settings
from instar.model.happenings import (
    AlarmOver,
    AlarmRaised,
    Checkpoint,
    EnvironmentMade,
    MachineKnown,
    MaintenanceSet,
    NameAdopted,
    ProjectKnown,
    SettingsChanged,
)
from instar.model.release import EnvironmentId, EnvironmentState, Maintenance

_STATES = """
    SELECT e.*, s.value AS settings, r.id AS rollout_id, r.kind, r.source, r.target, r.state, r.actor, r.started_at,
           r.ended_at, r.detail, r.stage
      FROM environments e
      JOIN settings s ON s.environment = e.id
                     AND s.version = (SELECT max(version) FROM settings WHERE environment = e.id)
      LEFT JOIN rollouts r ON r.environment = e.id AND r.state = 'running'
     WHERE e.removed_at IS NULL"""
_ALL = f"{_STATES} ORDER BY e.service, e.environment"
_OF_SERVICE = f"{_STATES} AND e.service = :service ORDER BY e.environment"
_ONE = f"{_STATES} AND e.service = :service AND e.environment = :environment"
_PRESENT = """
    SELECT id, destroying FROM environments
     WHERE service = :service AND environment = :environment AND removed_at IS NULL"""
_ADD = """
    INSERT INTO environments (id, service, environment, created_at)
    VALUES ((SELECT coalesce(max(id), 0) + 1 FROM environments), :service, :environment, :now) RETURNING id"""
_SETTINGS = "SELECT value, version FROM settings WHERE environment = :id ORDER BY version DESC LIMIT 1"
_ADD_SETTINGS = """
    INSERT INTO settings (environment, version, value, created_at)
    VALUES (:id, (SELECT coalesce(max(version), 0) + 1 FROM settings WHERE environment = :id), :value, :now)"""

_SET_ALARM = "UPDATE environments SET alarm = :alarm, alarm_holds = :holds WHERE id = :id"
_SET_PROJECT = "UPDATE environments SET project = :project WHERE id = :id"
_UNPROVABLE = "SELECT id, service, environment FROM environments WHERE provable_from IS NULL AND removed_at IS NULL"
_SET_PROVABLE = "UPDATE environments SET provable_from = :seq WHERE id = :id"
_LEFT = """
    SELECT e.service, e.environment, s.value AS settings FROM environments e JOIN settings s ON s.environment = e.id
     WHERE e.machine = :machine AND e.removed_at IS NOT NULL
       AND s.version = (SELECT max(version) FROM settings WHERE environment = e.id)"""
_SET_MACHINE = "UPDATE environments SET machine = :machine WHERE id = :id"
_SET_MAINTENANCE = "UPDATE environments SET maintenance = :maintenance WHERE id = :id"
_CHECKED_AT_MOST = 4096
_COUNT_ANEW = "UPDATE environments SET counted_since = :now WHERE id = :id"


ADD_ADOPT_NAME = "or take the name over: add --adopt-name"


def another_project(environment: EnvironmentId, way_out: str = ADD_ADOPT_NAME) -> Refused:
    """Return the refusal to work on an environment that another project's definition has made."""
    return Refused(
        f"cannot work on '{environment}': another project of that name has it; the id in its lock is not the one here",
        hint=f"give this one another 'name'; if it is the same project, take its lock from where it was; {way_out}",
    )


def elsewhere(environment: EnvironmentId, machine: str) -> Refused:
    """Return the refusal to work on an environment that another machine has."""
    return Refused(
        f"cannot work on '{environment}' here: its instances are on {machine}",
        hint="ask there; what is written down about it can be read here: instar history. Where that machine is gone "
        f"for good: instar destroy {environment} --lost-machine '{machine}'",
    )


class Environments:
    """Which environments there are."""

    def __init__(self, session: Session, events: Events, check: Check) -> None:
        self._session = session
        self._events = events
        self._check = check
        self._checked = set[tuple[str, str, str]]()  # what rows said that was held against it

    def environments(self, service: str | None = None) -> tuple[EnvironmentState, ...]:
        """Return all environments (of ``service``), by name. Raises LedgerDamaged when one of them can't be read."""
        return tuple(self._value(row) for row in self._rows(service))

    def readable(self, service: str | None = None) -> tuple[tuple[EnvironmentState, ...], Mapping[str, LedgerDamaged]]:
        """Return those of them that can be read, and of each other one, by SERVICE/ENV, why not."""
        found, damaged = list[EnvironmentState](), dict[str, LedgerDamaged]()
        for row in self._rows(service):
            try:
                found.append(self._value(row))
            except LedgerDamaged as error:
                damaged[f"{row['service']}/{row['environment']}"] = error
        return tuple(found), damaged

    def _value(self, row: Row) -> EnvironmentState:
        state = state_value(row)
        said = (row["settings"], row["names"] or "", row["stage"] or "")
        if said not in self._checked:
            before = state.rollout.stage.settings_before if state.rollout else None
            held_against(self._check, str(state.id), state.settings, state.names, *([before] if before else ()))
            if len(self._checked) >= _CHECKED_AT_MOST:
                self._checked.clear()
            self._checked.add(said)
        return state

    def _rows(self, service: str | None) -> Sequence[Row]:
        return self._session.rows(_OF_SERVICE, service=service) if service else self._session.rows(_ALL)

    def find_environment(self, environment: EnvironmentId) -> EnvironmentState | None:
        row = self._session.row(_ONE, service=environment.service, environment=environment.name)
        return self._value(row) if row else None

    def get_environment(self, environment: EnvironmentId) -> EnvironmentState:
        """Raises NotFound, which names the environments there are, the nearest first."""
        found = self.find_environment(environment)
        if found is None:
            raise self._no_environment(environment)
        return found

    def save_settings(self, environment: EnvironmentId, settings: Settings) -> EnvironmentState:
        """Make ``environment`` with ``settings``, or give it a new version of them; nothing when they are the same."""
        with self._events.transaction():
            row = self.find_row(environment)
            if row is None:
                self._add_environment(environment, settings)
            else:
                self._change_settings(row["id"], environment, settings)
            return self.get_environment(environment)

    def set_alarm(self, environment_id: EnvironmentId, reason: str | None, *, holds: bool = True) -> None:
        """Write that ``environment_id`` needs somebody, or (None) that somebody came. Nothing when it is so already.

        ``holds``: nothing is replaced there meanwhile. One that does takes the place of one that doesn't.
        """
        with self._events.transaction():
            environment, state = self.row_id(environment_id), self.get_environment(environment_id)
            graver = state.alarm is not None and reason is not None and holds and not state.alarm_holds
            if (state.alarm is None) == (reason is None) and not graver:
                return
            self._session.write(_SET_ALARM, id=environment, alarm=reason, holds=int(holds))
            if reason is None:
                self._session.write(_COUNT_ANEW, id=environment, now=self._events.clock.text())
            what = AlarmRaised(reason=reason, holds=holds) if reason else AlarmOver(reason=state.alarm)
            self._events.record(what, environment_id, state.active)

    def set_project(self, environment_id: EnvironmentId, project: str, *, adopt: bool = False) -> None:
        """Write whose ``environment_id`` is: once, and then only to ``adopt`` the name. Nothing when it is so already.

        Raises Refused when it is another project's.
        """
        with self._events.transaction():
            environment, state = self.row_id(environment_id), self.get_environment(environment_id)
            if state.project == project:
                return
            if state.project is None:
                self._events.record(ProjectKnown(project=project), environment_id)
            elif not adopt:
                raise another_project(environment_id)
            else:
                adopted = NameAdopted(project=project, source=state.project)
                self._events.record(adopted, environment_id, state.active)
            self._session.write(_SET_PROJECT, id=environment, project=project)

    def set_machine(self, environment: EnvironmentId, machine: str) -> None:
        """Write which machine has ``environment``: once. Nothing when it is so already. Raises Refused for another."""
        with self._events.transaction():
            row_id, state = self.row_id(environment), self.get_environment(environment)
            if state.machine == machine:
                return
            if state.machine is not None:
                raise elsewhere(environment, state.machine)
            self._session.write(_SET_MACHINE, id=row_id, machine=machine)
            self._events.record(MachineKnown(machine=machine), environment)

    def left(self, machine: str) -> Mapping[EnvironmentId, str]:
        """Return those that were on ``machine`` once, with their providers; they may be there again, or on another."""
        rows = self._session.rows(_LEFT, machine=machine)
        return {environment_value(row): provider_value(row) for row in rows}

    def set_maintenance(self, environment: EnvironmentId, *, on: bool, page: str | None) -> Maintenance:
        """Write whether requests of ``environment`` are answered with a page from now on, and with which (None: the
        usual one)."""
        with self._events.transaction():
            row_id, state = self.row_id(environment), self.get_environment(environment)
            said = Maintenance(on=on, page=page)
            event = self._events.record(MaintenanceSet(on=on, page=said.page_word), environment, state.active)
            said = replace(said, since=event.at)
            self._session.write(_SET_MAINTENANCE, id=row_id, maintenance=canonical(said).decode())
            return said

    def _add_environment(self, environment: EnvironmentId, settings: Settings) -> None:
        now = self._events.clock.text()
        added = self._session.write(_ADD, service=environment.service, environment=environment.name, now=now)
        self._session.write(_ADD_SETTINGS, id=added, value=canonical(settings).decode(), now=now)
        event = self._events.record(EnvironmentMade(settings=to_json(settings)), environment)
        self._session.write(_SET_PROVABLE, id=added, seq=event.seq)

    def write_checkpoints(self) -> None:
        """Write, once, how each environment is of which that does not follow from events: one of an older Instar."""
        if not self._session.rows(_UNPROVABLE):
            return
        from instar.ledger.tables import read_tables  # once in a ledger's life

        with self._events.transaction():
            for row in self._session.rows(_UNPROVABLE):
                environment = environment_value(row)
                tables = read_tables(self._session.engine, row["id"], open_only=True)
                event = self._events.record(Checkpoint(tables=tables), environment)
                self._session.write(_SET_PROVABLE, id=row["id"], seq=event.seq)

    def _change_settings(self, environment: int, environment_id: EnvironmentId, settings: Settings) -> None:
        old = self._session.row(_SETTINGS, id=environment)
        value = canonical(settings).decode()
        if old is None or old["value"] == value:
            return
        self.changeable(environment_id)
        self._session.write(_ADD_SETTINGS, id=environment, value=value, now=self._events.clock.text())
        self._events.record(SettingsChanged(old=parse(old["value"]), new=to_json(settings)), environment_id)

    def find_row(self, environment: EnvironmentId) -> Row | None:
        return self._session.row(_PRESENT, service=environment.service, environment=environment.name)

    def row_id(self, environment: EnvironmentId) -> int:
        row = self.find_row(environment)
        if row is None:
            raise self._no_environment(environment)
        return int(row["id"])

    def changeable(self, environment: EnvironmentId) -> int:
        """Return the row id of an environment that something may still be added to."""
        row = self.find_row(environment)
        if row is None:
            raise self._no_environment(environment)
        if row["destroying"]:
            raise Refused(
                f"cannot change '{environment}': it is being destroyed",
                hint=f"finish that first: instar destroy {environment}",
            )
        return int(row["id"])

    def _no_environment(self, environment: EnvironmentId) -> NotFound:
        return no_environment(str(environment), [str(state.id) for state in self.readable()[0]], of=environment.service)


def no_environment(word: str, known: Sequence[str], *, of: str | None = None) -> EnvironmentNotFound:
    """Return the error that says which environments are ``known``, the nearest to ``word`` first. ``of``: the service
    that is meant for certain; then none of another is near."""
    from difflib import get_close_matches  # only here: its import is slow

    service, _, own = word.rpartition("/")
    services = {name.partition("/")[0] for name in known}
    meant = {of} if of else {service} & services or set(get_close_matches(service, services, n=1))
    names = {name.partition("/")[2]: name for name in known if not service or name.partition("/")[0] in meant}
    near = [names[name] for name in get_close_matches(own, names, n=1)]
    near = near or (get_close_matches(word, known, n=1) if not service else [])
    ask = f"did you mean {near[0]}?" if near else f"make it with: instar deploy {own}, or instar promote FROM {own};"
    listed = f" there are: {', '.join(near + [name for name in known if name not in near])}" if known else ""
    return EnvironmentNotFound(
        f"cannot find '{word}': there is no such environment", hint=f"{ask}{listed}".removesuffix(";")
    )
