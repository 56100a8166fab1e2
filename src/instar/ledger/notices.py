"""Which machine an event is of, where several share the ledger, and which one tells of it: each event is told once."""

from __future__ import annotations

from instar.ledger.events import Events
from instar.ledger.rows import time_text
from instar.ledger.session import Session
from instar.model.events import Event
from instar.model.happenings import DamageFound

_OF_ENVIRONMENT = """
    SELECT machine FROM environments
     WHERE service = :service AND environment = :environment AND created_at <= :at ORDER BY id DESC LIMIT 1"""
_CLAIM = "INSERT INTO notices (event, machine) VALUES (:event, :machine) ON CONFLICT (event) DO NOTHING"
_CLAIMED = "SELECT machine FROM notices WHERE event = :event"


class NoticeClaims:
    """A ledger of one machine is told of by that one, all of it."""

    def __init__(self, session: Session, events: Events, *, shared: bool) -> None:
        self._session = session
        self._events = events
        self._shared = shared

    def concerns(self, event: Event, machine: str) -> bool:
        """Tell whether an event is of ``machine``, or of none."""
        return not self._shared or self._machine_of(event) in (None, machine)

    def is_to_tell(self, event: Event, machine: str) -> bool:
        """Tell whether ``machine`` is the one to tell of ``event``. Of one that is of no machine it is whoever asks
        first, and remains so."""
        if not self._shared:
            return True
        of = self._machine_of(event)
        return of == machine if of is not None else self._claims(event, machine)

    def _machine_of(self, event: Event) -> str | None:
        """Return where the environment is, or was, in which it happened; None of what any machine can ask."""
        if event.environment is None:
            return event.what.machine if isinstance(event.what, DamageFound) else None
        where = {"service": event.environment.service, "environment": event.environment.name}
        row = self._session.row(_OF_ENVIRONMENT, **where, at=time_text(event.at))
        return row["machine"] if row is not None else None

    def _claims(self, event: Event, machine: str) -> bool:
        claimed = self._session.row(_CLAIMED, event=event.seq)
        if claimed is None:
            with self._events.transaction():
                self._session.write(_CLAIM, event=event.seq, machine=machine)
                claimed = self._session.row(_CLAIMED, event=event.seq)
        return claimed is not None and bool(claimed["machine"] == machine)
