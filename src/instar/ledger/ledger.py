"""The ledger as a whole: its door, and what concerns all of its nouns at once.

One line of classes, each standing on the one before, since each writes with what those know:
Events ← Environments ← Releases ← Rollouts ← Instances ← Tasks ← Ledger.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from instar.errors import Refused
from instar.ledger.database import Database
from instar.ledger.tasks import Tasks
from instar.ledger.verification import Verified, verify
from instar.model.release import EnvironmentId

_DESTROYING = "UPDATE environments SET destroying = 1 WHERE id = :id"
_REMOVE = "UPDATE environments SET active = NULL, removed_at = :now WHERE id = :id"


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Ledger(Tasks):
    """Releases, rollouts, instances and events, in one SQLite file. It knows no process and no other file.

    Every change is one transaction with the event that tells of it. Methods that change something can be grouped
    into one commit with :meth:`transaction`. Can be shared by threads. Raises LedgerError and its kinds for what is
    wrong with the file, NotFound for what isn't there, Refused for what must not be.
    """

    def __init__(self, path: Path, *, actor: str, clock: Callable[[], datetime] = _utc_now) -> None:
        """Open the ledger at ``path``, or make it. ``actor`` is who acts, ``clock`` gives aware times.

        Raises LedgerNewer, LedgerDamaged (a quick look only, :meth:`verify` looks at everything), LedgerError.
        """
        super().__init__(Database(path), actor=actor, clock=clock)

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def set_destroying(self, environment_id: EnvironmentId) -> None:
        """Write that ``environment_id`` is to be destroyed: nothing is added to it from now on, a running rollout has
        failed."""
        with self.transaction():
            environment, state = self._row_id(environment_id), self.get_environment(environment_id)
            if state.rollout is not None:
                self.end_rollout(state.rollout, "failed", {"reason": "the environment is being destroyed"})
            if not state.destroying:
                self._database.write(_DESTROYING, id=environment)
                self._record("destroying", environment_id, state.active, None, {})

    def remove_environment(self, environment: EnvironmentId) -> None:
        """Write that nothing is left of ``environment``. Its events stay, its release numbers are never used again.

        Raises Refused while it has instances.
        """
        with self.transaction():
            left = self.instances(environment)
            if left:
                raise Refused(f"cannot remove '{environment}': '{left[0].id}' is not destroyed yet")
            self.set_destroying(environment)
            self._database.write(_REMOVE, id=self._row_id(environment), now=self._now())
            self._record("removed", environment, None, None, {})

    def verify(self) -> Verified:
        """Check every page, the chain of events, and that releases and traffic are what the events say.

        Raises LedgerDamaged, naming the first event that is not what was written. A cut-off end shows only when
        the result's ``head`` is compared with the one in the system log.
        """
        with self._database.reading() as connection:
            return verify(connection, self._database.path)
