"""The ledger's door: one surface for all that is written in it, put together from a repository for each noun.

Repositories stand beside each other on one :class:`Session`; each is given those that it asks. Who acts is said once
for a view (:meth:`Ledger.acting_as`) and stands in every event that is written through it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from instar.errors import LedgerError, Refused
from instar.ledger import boots
from instar.ledger.environments import Environments
from instar.ledger.events import Clock, Events
from instar.ledger.instances import Instances
from instar.ledger.leases import Leases
from instar.ledger.members import Members
from instar.ledger.names import NameClaims
from instar.ledger.notices import NoticeClaims
from instar.ledger.releases import Releases
from instar.ledger.rollouts import Rollouts
from instar.ledger.rows import Check, time_text
from instar.ledger.schedules import Schedules
from instar.ledger.schema import latest
from instar.ledger.secrets import Secrets
from instar.ledger.session import Session
from instar.ledger.tasks import Tasks
from instar.model.happenings import DestructionBegun, EnvironmentRemoved, MachineLost
from instar.model.release import EnvironmentId

if TYPE_CHECKING:
    from instar.ledger.postgresql import PostgreSQL
    from instar.ledger.sqlite import SQLite
    from instar.ledger.verification import Verified

_DESTROYING = "UPDATE environments SET destroying = 1 WHERE id = :id"
_REMOVE = "UPDATE environments SET active = NULL, removed_at = :now WHERE id = :id"


class Ledger:
    """Releases, rollouts, instances and events, in one database. It knows no process and no other file.

    Every change is one transaction with the event that tells of it. Methods that change something can be grouped
    into one commit with :meth:`transaction`. Can be shared by threads. Raises LedgerError and its kinds for what is
    wrong with the database, NotFound for what isn't there, Refused for what must not be.
    """

    def __init__(
        self,
        address: Path | str | Session,
        *,
        actor: str,
        clock: Callable[[], datetime] | None = None,
        check: Check = lambda value: None,
    ) -> None:
        """Open the ledger at ``address``: a file (made when there is none), or postgresql://…; or take an open session.

        ``actor`` is who acts, ``clock`` gives aware times; without one it is the engine's. ``check`` raises ValueError
        for settings and configurations that no definition can have said, where others write the ledger too.

        Raises LedgerNewer, LedgerDamaged (a quick look only, :meth:`verify` looks at everything), LedgerError.
        """
        session = address if isinstance(address, Session) else Session(_open(address))
        self._take(session, actor, Clock(session, clock), _leases(session, address), check)
        with contextlib.suppress(
            LedgerError
        ):  # one that can only be read is read, and stays unprovable until it is not
            self.acting_as("instar")._environments.write_checkpoints()

    def acting_as(self, actor: str) -> Ledger:
        """Return the same ledger, open as it is, as ``actor`` writes it."""
        view = object.__new__(type(self))
        view._take(self.session, actor, self._clock, self.leases, self._check)
        return view

    def _take(self, session: Session, actor: str, clock: Clock, leases: Leases | None, check: Check) -> None:
        self.session, self.leases, self._clock, self._check = session, leases, clock, check
        self._events = events = Events(session, actor, clock, leases)
        self._environments = environments = Environments(session, events, check)
        releases = Releases(session, events, environments, check)
        rollouts = Rollouts(session, events, environments, releases)
        instances = Instances(session, events, environments, releases)
        tasks = Tasks(session, events, environments, releases, instances)
        self.schedules = Schedules(session, events, environments, tasks)
        members = Members(session, events, instances)
        secrets = Secrets(session, events, environments)
        self.transaction, self.now, self.record = events.transaction, clock.now, events.record
        self.history, self.newest_first, self.events_after = events.history, events.newest_first, events.after
        self.environments, self.readable_environments = environments.environments, environments.readable
        self.find_environment = environments.find_environment
        self.get_environment, self.save_settings = environments.get_environment, environments.save_settings
        self.set_alarm, self.set_project = environments.set_alarm, environments.set_project
        self.set_machine, self.set_maintenance = environments.set_machine, environments.set_maintenance
        self.left, self.instance_roles = environments.left, instances.instance_roles
        self.names = NameClaims(session, events, environments)
        self.add_release, self.get_release = releases.add_release, releases.get_release
        self.releases, self.set_active = releases.releases, releases.set_active
        self.recent, self.pinned, self.set_pinned = releases.recent, releases.pinned, releases.set_pinned
        self.begin_rollout, self.end_rollout = rollouts.begin_rollout, rollouts.end_rollout
        self.change_stage, self.get_rollout = rollouts.change_stage, rollouts.get_rollout
        self.add_instances, self.instances = instances.add_instances, instances.instances
        self.replacements, self.owed, self.drifted = instances.replacements, instances.owed, instances.drifted
        self.instance_names, self.instance_releases = instances.instance_names, instances.instance_releases
        self.instances_of_removed, self.provider_records = instances.instances_of_removed, instances.provider_records
        self.set_made, self.set_started, self.taint = instances.set_made, instances.set_started, instances.taint
        self.set_ending, self.endings, self.find_ending = instances.set_ending, instances.endings, instances.find_ending
        self.taint_member, self.set_member_aside = members.taint_member, members.set_member_aside
        self.remove_member, self.remove_instance = members.remove_member, instances.remove_instance
        self.last_rollout, self.last_data_back = rollouts.last_rollout, rollouts.last_data_back
        self.begin_task, self.end_task = tasks.begin_task, tasks.end_task
        self.begin_run, self.given_tasks = tasks.begin_run, tasks.given_tasks
        self.tasks, self.may_have_written = tasks.tasks, tasks.may_have_written
        self.identity, self.find_secret_key = secrets.identity, secrets.find_secret_key
        self.set_secret_key, self.find_secret = secrets.set_secret_key, secrets.find_secret
        self.put_secrets, self.remove_secrets = secrets.put_secrets, secrets.remove_secrets
        self.signing_key, self.find_signing_key = secrets.signing_key, secrets.find_signing_key

    @property
    def actor(self) -> str:
        return self._events.actor

    @property
    def address(self) -> str:
        """Where it is, as messages name it."""
        return self.session.engine.address

    @property
    def schema_version(self) -> int:
        return latest(self.session.engine.name)

    @property
    def shared(self) -> bool:
        """Whether other machines write it too."""
        return self.leases is not None

    @property
    def notices(self) -> NoticeClaims:
        """Who tells of which event."""
        return NoticeClaims(self.session, self._events, shared=self.shared)

    def require_lease(self, environment: EnvironmentId) -> None:
        """Raise LeaseLost where this process held the lease on ``environment``, and no longer does."""
        if self.leases is not None:
            self.leases.require(environment)

    def close(self) -> None:
        if self.leases is not None:
            self.leases.close()
        self.session.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def set_destroying(self, environment: EnvironmentId) -> None:
        """Write that ``environment`` is to be destroyed: nothing is added to it from now on, a running rollout has
        failed."""
        with self.transaction():
            row_id, state = self._environments.row_id(environment), self.get_environment(environment)
            if state.rollout is not None:
                self.end_rollout(state.rollout, "failed", {"reason": "the environment is being destroyed"})
            if not state.destroying:
                self.session.write(_DESTROYING, id=row_id)
                self.record(DestructionBegun(), environment, state.active)

    def remove_environment(self, environment: EnvironmentId) -> None:
        """Write that nothing is left of ``environment``. Its events stay, its release numbers are never used again.

        Raises Refused while it has instances.
        """
        with self.transaction():
            left = self.instances(environment)
            if left:
                raise Refused(f"cannot remove '{environment}': '{left[0].id}' is not destroyed yet")
            self.set_destroying(environment)
            self.session.write(_REMOVE, id=self._environments.row_id(environment), now=self._clock.text())
            self.record(EnvironmentRemoved(), environment)

    def give_up_environment(self, environment: EnvironmentId) -> None:
        """Write that ``environment`` is gone with its machine, which is lost: all that was there of it. Its events
        stay, and its name is free.

        Raises Refused where its machine has acted lately.
        """
        with self.transaction():
            state = self.get_environment(environment)
            assert state.machine is not None
            heard_at = boots.require_silent(self.session, state.machine) if self.shared else None
            lost = MachineLost(machine=state.machine, heard_at=time_text(heard_at) if heard_at else None)
            self.set_destroying(environment)
            self.record(lost, environment, state.active)
            for instance in self.instances(environment):
                self.remove_instance(instance.id, "its machine is gone for good")
            self.remove_environment(environment)

    def verify(self) -> Verified:
        """Check every page, the chain of events, and that releases and traffic are what the events say.

        Raises LedgerDamaged, naming the first event that is not what was written. A cut-off end shows only when
        the result's ``head`` is compared with the one in the system log.
        """
        from instar.ledger.verification import verify  # most commands don't

        with self.session.reading() as engine:
            return verify(engine)


def _leases(session: Session, address: Path | str | Session) -> Leases | None:
    if session.engine.name != "postgresql" or isinstance(address, Session):
        return None
    from instar.ledger.postgresql import PostgreSQL

    return Leases(session, lambda: PostgreSQL(str(address)))


def look(address: Path | str) -> int:
    """Return the number of the schema that the ledger at ``address`` has, changing nothing. Raises what opening it
    raises, and where a shared one is not of this version."""
    engine = _open(address, as_it_is=True)
    try:
        return engine.version()
    finally:
        engine.close()


def _open(address: Path | str, *, as_it_is: bool = False) -> SQLite | PostgreSQL:
    if isinstance(address, str) and address.startswith(("postgresql://", "postgres://")):
        from instar.ledger.postgresql import PostgreSQL  # its library is imported only where it is used

        return PostgreSQL(address, as_it_is=as_it_is)
    from instar.ledger.sqlite import SQLite

    return SQLite(Path(address), as_it_is=as_it_is)
