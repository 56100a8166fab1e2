"""The agent's part in certificates: again and again, whatever is due is ordered, renewed, shown, or warned of.

It has a thread of its own, so that no environment waits for a slow authority, and can be stopped in the middle of an
order, which the next one goes on with.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from instar import threads
from instar.cancellation import Cancellation
from instar.certificates import schedule
from instar.certificates.door import Door
from instar.certificates.renewals import now_utc
from instar.errors import Cancelled, EnvironmentBusy, HostError, InstarError
from instar.model.certificate import CertificateStatus, WantedCertificate
from instar.model.happenings import CertificateExpiring
from instar.model.progress import Progress, Report
from instar.model.release import EnvironmentId
from instar.operations.certificates import doors_here, find_door, open_renewals, renew_one, wanted_here
from instar.operations.workspace import Workspace
from instar.waiting import Deadline

_LOOK_S = 1.0  # at which certificates are wanted
_ROUND_S = 20.0  # from one look at all of them to the next
_LONGEST_ROUND_S = 60.0  # what is begun by then is finished
_AFTER_AN_ERROR_S = 10.0
_TO_ITS_END_S = 5.0


class CertificateListener(Protocol):
    """What is told of the rounds. Called from their thread."""

    def failed(self, environment: EnvironmentId, error: Exception) -> None: ...

    def certified(self, found: Sequence[CertificateStatus]) -> None:
        """A round ended with the certificates as ``found``."""

    def report_for(self, environment: EnvironmentId) -> Report: ...


class CertificateRounds:
    """One per agent."""

    def __init__(self, workspace: Workspace, listener: CertificateListener) -> None:
        self._workspace = workspace
        self._listener = listener
        self._cancellation = Cancellation()
        self._renewals = open_renewals(workspace, self._cancellation)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._wanted: tuple[WantedCertificate, ...] | None = None  # in the last round; None before the first
        self._due = 0.0

    def start(self) -> None:
        self._thread = threads.begin(self._run, "certificates")

    def stop(self) -> None:
        """Have the thread end soon. May be called by a signal handler."""
        self._cancellation.request()
        self._stopped.set()

    def join(self) -> None:
        """Wait for it, but not for an authority that does not answer: what it does can be gone on with."""
        self.stop()
        if self._thread is not None:
            self._thread.join(_TO_ITS_END_S)

    def round(self) -> None:
        """Look at every certificate that is needed here, once, and do what is due: first what has not failed before,
        and the rest for as long as a round may take. Names that lead to nobody who answers keep no other waiting.

        Raises Cancelled.
        """
        wanted, edges = wanted_here(self._workspace), dict[EnvironmentId, _Shown]()
        found, deadline = [], Deadline.after(_LONGEST_ROUND_S)
        for one in sorted(wanted, key=self._failures):
            try:
                shown = edges.setdefault(one.environment, self._shown(one.environment, edges))
                if not deadline.is_over:
                    self._see_to(one, shown)
                found.append(self._renewals.status(one, shown.served))
            except Cancelled:
                raise
            except EnvironmentBusy:
                continue  # somebody orders by hand: the next round looks again
            except Exception as error:  # what nobody foresaw, too: it is one certificate's
                self._listener.failed(one.environment, error)
        self._listener.certified(found)
        self._withdraw({name for one in wanted for name in one.names})
        self._wanted = wanted

    def _run(self) -> None:
        while not self._stopped.wait(_LOOK_S):
            try:
                if wanted_here(self._workspace) != self._wanted or (self._wanted and time.monotonic() >= self._due):
                    self._due = time.monotonic() + _ROUND_S
                    self.round()
            except Cancelled:
                return
            except InstarError:  # the ledger does not answer, which the passes tell: the next round looks again
                self._stopped.wait(_AFTER_AN_ERROR_S)

    def _shown(self, environment: EnvironmentId, known: Mapping[EnvironmentId, _Shown]) -> _Shown:
        """Return the edge of an environment with what it shows: one for all of a provider."""
        state = self._workspace.ledger.get_environment(environment)
        provider = state.settings.provider
        found = next((one for one in known.values() if one.provider == provider), None)
        return found or _Shown(provider=provider, door=find_door(self._workspace, environment))

    def _failures(self, wanted: WantedCertificate) -> int:
        with contextlib.suppress(HostError):  # it is told when that one is looked at
            return self._renewals.record(wanted).failures
        return 0

    def _see_to(self, wanted: WantedCertificate, shown: _Shown) -> None:
        renewals, report = self._renewals, self._listener.report_for(wanted.environment)
        if renewals.is_due(wanted):
            renewal = renew_one(self._workspace, renewals, wanted)
            if renewal.outcome == "renewed" and renewal.held is not None:
                end = f"{renewal.held.not_after:%Y-%m-%d %H:%M} UTC"
                text = f"{', '.join(wanted.names)} has a new certificate, until {end}"
                report(Progress(stage="tls", text=text))
            elif renewal.error is not None:
                self._listener.failed(wanted.environment, renewal.error)
            shown.look()
        else:
            renewals.ask_when(wanted)
        if renewals.show(wanted, shown.door, shown.served):
            report(Progress(stage="tls", text=f"the edge shows the certificate of {', '.join(wanted.names)}"))
            shown.look()
        self._warn_if_late(wanted)

    def _warn_if_late(self, wanted: WantedCertificate) -> None:
        """Write down, once for each certificate, that it should long have been renewed."""
        record = self._renewals.record(wanted)
        held = record.certificate
        if held is None or record.warned == held.fingerprint or not schedule.is_late(held, now_utc()):
            return
        end = held.not_after.isoformat()
        what = CertificateExpiring(names=wanted.names, source=wanted.source, not_after=end, cause=record.error)
        self._workspace.ledger.record(what, wanted.environment)
        self._renewals.note(wanted, recorded=record.recorded, warned=held.fingerprint)

    def _withdraw(self, names: Collection[str]) -> None:
        """Have no certificate shown for a name that no environment has any more; nothing while one can't be read, which
        may have any name."""
        if self._workspace.ledger.readable_environments()[1]:
            return
        for door in doors_here(self._workspace):
            gone = sorted(door.served().keys() - names)
            if gone:
                door.withdraw(gone)


@dataclass
class _Shown:
    """A provider's edge, and which certificate it shows for each name."""

    provider: str
    door: Door | None
    served: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.look()

    def look(self) -> None:
        self.served = dict(self.door.served()) if self.door is not None else {}
