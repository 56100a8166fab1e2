"""Releases: numbered, immutable, and which of them has the traffic."""

from __future__ import annotations

from collections.abc import Sequence

from instar.errors import NotFound
from instar.ledger.environments import Environments
from instar.ledger.events import NO_LIMIT, Events
from instar.ledger.rows import Check, held_against, release_value
from instar.ledger.session import Row, Session
from instar.model.codec import canonical
from instar.model.configuration import Configuration
from instar.model.digest import Digest
from instar.model.happenings import ReleaseMade, ReleasePinned, ReleaseUnpinned
from instar.model.origin import Origin
from instar.model.release import EnvironmentId, Release
from instar.model.rollout_happenings import TrafficShifted

_NEXT = """
    SELECT coalesce(max(r.number), 0) + 1 AS number
      FROM environments e JOIN releases r ON r.environment = e.id
     WHERE e.service = :service AND e.environment = :environment"""
_ADD = """
    INSERT INTO releases (environment, number, image, configuration, configuration_digest, created_at, origin)
    VALUES (:environment, :number, :image, :configuration, :digest, :now, :origin)"""
_ALL = "SELECT * FROM releases WHERE environment = :environment ORDER BY number DESC LIMIT :last"
_RECENT = """
    SELECT * FROM releases WHERE environment = :environment AND ran_well = 1 AND last_active_at IS NOT NULL
     ORDER BY last_active_at DESC, number DESC LIMIT :count"""
_PINNED = "SELECT * FROM releases WHERE environment = :environment AND pinned = 1 ORDER BY number DESC"
_ONE = "SELECT * FROM releases WHERE environment = :environment AND number = :number"
_NUMBERS = "SELECT number FROM releases WHERE environment = :environment ORDER BY number"
_ACTIVE = "SELECT active FROM environments WHERE id = :environment"
_SET_ACTIVE = "UPDATE environments SET active = :number WHERE id = :environment"
_TOUCH = "UPDATE releases SET last_active_at = :now WHERE environment = :environment AND number IN (:old, :new)"

_PIN = "UPDATE releases SET pinned = :pinned WHERE environment = :environment AND number = :number"


class Releases:
    """What was released, and which release has the traffic."""

    def __init__(self, session: Session, events: Events, environments: Environments, check: Check) -> None:
        self._session = session
        self._events = events
        self._environments = environments
        self._check = check
        self._checked = set[str]()  # digests of configurations

    def add_release(
        self,
        environment_id: EnvironmentId,
        image: Digest,
        configuration: Configuration,
        origin: Origin | None = None,
    ) -> Release:
        """Write the next release of ``environment_id``. Its number was never used before, not even before a
        destruction."""
        with self._events.transaction():
            environment = self._environments.changeable(environment_id)
            numbered = self._session.row(_NEXT, service=environment_id.service, environment=environment_id.name)
            assert numbered is not None  # an aggregate has a row
            text = canonical(configuration)
            self._session.write(
                _ADD,
                environment=environment,
                number=numbered["number"],
                image=image,
                configuration=text.decode(),
                digest=Digest.of(text),
                now=self._events.clock.text(),
                origin=None if origin is None else canonical(origin).decode(),
            )
            made = ReleaseMade(configuration=Digest.of(text), origin=origin)
            self._events.record(made, environment_id, numbered["number"], image)
            return self.get_release(environment_id, numbered["number"])

    def releases(self, environment: EnvironmentId, *, last: int | None = None) -> tuple[Release, ...]:
        """Return the releases of ``environment``, newest first (``last``: that many); none of an environment that isn't
        there."""
        row = self._environments.find_row(environment)
        if row is None:
            return ()
        rows = self._session.rows(_ALL, environment=row["id"], last=NO_LIMIT if last is None else last)
        return tuple(self._value(found, environment) for found in rows)

    def recent(self, environment: EnvironmentId, count: int) -> tuple[Release, ...]:
        """Return the ``count`` releases that ran well and had the traffic last, the latest first."""
        row = self._environments.find_row(environment)
        if row is None:
            return ()
        rows = self._session.rows(_RECENT, environment=row["id"], count=count)
        return tuple(self._value(found, environment) for found in rows)

    def pinned(self, environment: EnvironmentId) -> tuple[Release, ...]:
        """Return the releases that are kept until somebody unpins them, newest first."""
        row = self._environments.find_row(environment)
        if row is None:
            return ()
        return tuple(self._value(found, environment) for found in self._session.rows(_PINNED, environment=row["id"]))

    def get_release(self, environment_id: EnvironmentId, number: int) -> Release:
        """Raises NotFound, which names those there are; LedgerDamaged when what is written is not what was released."""
        environment = self._environments.row_id(environment_id)
        row = self._session.row(_ONE, environment=environment, number=number)
        if row is None:
            raise self._no_release(environment, environment_id, number)
        return self._value(row, environment_id)

    def set_pinned(self, environment_id: EnvironmentId, number: int, pinned: bool) -> Release:
        """Write that a release is kept whatever ``keep`` says, or no longer. Nothing when it is so already."""
        with self._events.transaction():
            release = self.get_release(environment_id, number)
            if release.pinned != pinned:
                environment = self._environments.row_id(environment_id)
                self._session.write(_PIN, environment=environment, number=number, pinned=int(pinned))
                what = ReleasePinned() if pinned else ReleaseUnpinned()
                self._events.record(what, environment_id, number, release.image)
            return self.get_release(environment_id, number)

    def set_active(
        self,
        environment_id: EnvironmentId,
        number: int | None,
        *,
        instances: Sequence[str] | None = None,
        reason: str | None = None,
    ) -> None:
        """Write that release ``number`` has the traffic from now on; None: that nothing has.

        ``instances`` are those that have it, ``reason`` is why it moved outside a rollout's way.

        The release that is left and the one that follows get this moment as their ``last_active_at``. Writes
        nothing when it is so already.
        """
        with self._events.transaction():
            environment = self._environments.row_id(environment_id)
            release = None if number is None else self.get_release(environment_id, number)
            row = self._session.row(_ACTIVE, environment=environment)
            old = row["active"] if row else None
            if old == number:
                return
            self._session.write(_SET_ACTIVE, environment=environment, number=number)
            self._session.write(_TOUCH, environment=environment, old=old, new=number, now=self._events.clock.text())
            image = release.image if release else None
            names = None if instances is None else tuple(instances)
            shifted = TrafficShifted(source=old, instances=names, reason=reason)
            self._events.record(shifted, environment_id, number, image)

    def _value(self, row: Row, environment: EnvironmentId) -> Release:
        release = release_value(row, environment)
        if row["configuration_digest"] not in self._checked:
            held_against(self._check, str(environment), release.configuration)
            self._checked.add(row["configuration_digest"])
        return release

    def _no_release(self, environment: int, environment_id: EnvironmentId, number: int) -> NotFound:
        numbers = [str(row["number"]) for row in self._session.rows(_NUMBERS, environment=environment)]
        known = f"there are: {', '.join(numbers)}" if numbers else "it has none yet: instar deploy"
        return NotFound(f"cannot find release {number} of '{environment_id}': there is no such release", hint=known)
