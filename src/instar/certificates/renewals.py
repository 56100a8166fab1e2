"""The certificates that this machine's environments need: ordered, renewed, shown. One call does one thing for one.

What is shown stays shown until something better was checked: an order that fails changes nothing but the record.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from instar.cancellation import Cancellation
from instar.certificates import schedule
from instar.certificates.dns_command import HINT
from instar.certificates.door import Door
from instar.certificates.fingerprint import fingerprint_of
from instar.certificates.reachability import PORT, addresses_of, require_here
from instar.certificates.record import CertificateRecord
from instar.certificates.store import CertificateStore, read_state
from instar.errors import (
    AuthorityBusy,
    Cancelled,
    CertificateError,
    ComponentMissing,
    EnvironmentBusy,
    InstarError,
    NameElsewhere,
)
from instar.frozen import dataclass
from instar.model.certificate import Certificate, CertificateStatus, WantedCertificate
from instar.model.machine import AcmeSettings

if TYPE_CHECKING:
    from instar.certificates.acme_directory import AcmeDirectory
    from instar.certificates.pem import Pair

INTERNAL = "internal"


def now_utc() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Renewal:
    """What became of a wanted certificate. ``error`` is why it "failed", and will be tried again at ``again_at``."""

    wanted: WantedCertificate
    outcome: Literal["kept", "renewed", "failed"]
    record: CertificateRecord
    error: InstarError | None = None

    @property
    def held(self) -> Certificate | None:
        return self.record.certificate


class Renewals:
    """For one state directory. ``machine`` names its own authority; ``door`` is None where nothing shows any.

    ``port`` and ``resolve`` are how a name is asked whether it leads here.
    """

    def __init__(
        self,
        store: CertificateStore,
        settings: AcmeSettings,
        *,
        machine: str,
        cancellation: Cancellation,
        now: Callable[[], datetime] = now_utc,
        port: int = PORT,
        resolve: Callable[[str], Sequence[str]] = addresses_of,
    ) -> None:
        self._store = store
        self._settings = settings
        self._machine = machine
        self._cancellation = cancellation
        self._now = now
        self._port = port
        self._resolve = resolve
        self._directory: AcmeDirectory | None = None

    def order_at(self, wanted: WantedCertificate) -> datetime | None:
        """Return when it is ordered, renewed, or tried again; None of what comes from files. Raises HostError."""
        if wanted.source == "files":
            return None
        return schedule.order_at(wanted, self.record(wanted), self._authority(wanted), self._now())

    def is_held(self, wanted: WantedCertificate) -> bool:
        """Tell whether there is one for all its names, by whomever. Raises HostError."""
        held = self.record(wanted).certificate
        return held is not None and held.covers(wanted.names)

    def can_prove(self, name: str) -> bool:
        """Tell whether this machine has what a name is proven by: wildcards need a command that writes to the DNS."""
        return bool(self._settings.dns.command) or not name.startswith("*.")

    def is_due(self, wanted: WantedCertificate) -> bool:
        at = self.order_at(wanted)
        return at is not None and at <= self._now()

    def renew(
        self, wanted: WantedCertificate, door: Door | None, *, asked: bool = False, force: bool = False
    ) -> Renewal:
        """Order or renew it if it is time, and show it. ``asked``: somebody waits, so whatever failed before is no
        reason to wait; ``force``: though it need not be, and whatever the name leads to.

        What was expected to go wrong is in the answer. Raises Cancelled, HostError, RouterError.
        """
        record = self.record(wanted)
        if wanted.source == "files" or not (force or self._is_needed(wanted, record, asked=asked)):
            return Renewal(wanted=wanted, outcome="kept", record=record)
        if record.barred_until is not None and self._now() < record.barred_until:
            error = AuthorityBusy(
                f"{record.error}", hint=f"the authority takes no order before {record.barred_until:%Y-%m-%d %H:%M} UTC"
            )
            return Renewal(wanted=wanted, outcome="failed", record=record, error=error)
        try:
            pair = self._new(wanted, record, door, force=force)
        except (Cancelled, EnvironmentBusy):
            raise
        except (CertificateError, ComponentMissing) as error:
            return self._failed(wanted, record, error)
        return self._renewed(wanted, record, pair, door)

    def put(self, wanted: WantedCertificate, pair: Pair, door: Door | None) -> Renewal:
        """Keep and show a certificate that came from files. Raises HostError, RouterError."""
        record = self.record(wanted)
        if record.certificate is not None and record.certificate.fingerprint == pair.certificate.fingerprint:
            self.show(wanted, door)
            return Renewal(wanted=wanted, outcome="kept", record=record)
        return self._renewed(wanted, record, pair, door)

    def show(self, wanted: WantedCertificate, door: Door | None, served: Mapping[str, str] | None = None) -> bool:
        """Have the edge show what is held; return whether there was anything to do. ``served``: what it shows just now.

        Raises HostError, RouterError.
        """
        text = self._store.folder(wanted).pem()
        held = fingerprint_of(text) if text is not None else None
        if text is None or door is None:
            return False
        shown = served if served is not None else dict(door.served())
        if all(shown.get(name) == held for name in wanted.names):
            return False
        chain, key = _parts(text)
        door.serve(wanted.names, chain, key)
        return True

    def ask_when(self, wanted: WantedCertificate) -> None:
        """Ask the authority when it would have it renewed, if it is time to ask. That it doesn't say is no error: then
        two thirds of the life count. Raises HostError, Cancelled."""
        record = self.record(wanted)
        at = schedule.asks_at(record) if wanted.source == "acme" else None
        held, now = record.certificate, self._now()
        if at is None or held is None or at > now or held.not_after <= now:
            return
        try:
            window = self._acme().renewal_window(held)
        except (CertificateError, ComponentMissing):
            window = None
        if window is None:
            record = dataclasses.replace(record, ask_at=now + schedule.ASK_EVERY)
        else:
            moment = schedule.moment_between(window.start, window.end, held.fingerprint)
            record = dataclasses.replace(record, renew_at=moment, ask_at=window.ask_at)
        self._store.folder(wanted).note(record)

    def note(self, wanted: WantedCertificate, *, recorded: str | None, warned: str | None) -> None:
        """Keep of which certificate the ledger was told that it is there, and that it ends soon. Raises HostError."""
        found = dataclasses.replace(self.record(wanted), recorded=recorded, warned=warned)
        self._store.folder(wanted).note(found)

    def status(self, wanted: WantedCertificate, served: Mapping[str, str] | None) -> CertificateStatus:
        """Return what is known of it; ``served`` is what the edge shows, None where it could not be asked."""
        record = self.record(wanted)
        held = record.certificate
        shown = None
        if served is not None:
            shown = held is not None and all(served.get(name) == held.fingerprint for name in wanted.names)
        return CertificateStatus(
            wanted=wanted,
            held=held,
            served=shown,
            renew_at=self.order_at(wanted),
            error=record.error,
            failures=record.failures,
        )

    def root(self) -> bytes:
        """Return the certificate of the machine's own authority, made now where there is none. Raises HostError."""
        from instar.certificates.own_authority import OwnAuthority

        return OwnAuthority(self._store.authority, self._machine).root(self._now())

    def _is_needed(self, wanted: WantedCertificate, record: CertificateRecord, *, asked: bool) -> bool:
        if not asked:
            return self.is_due(wanted)
        return schedule.needed_at(wanted, record, self._authority(wanted), self._now()) <= self._now()

    def record(self, wanted: WantedCertificate) -> CertificateRecord:
        """Return what is known of it. Raises HostError."""
        return self._store.folder(wanted).record()

    def _authority(self, wanted: WantedCertificate) -> str:
        if wanted.source != INTERNAL:
            return self._settings.directory
        root = read_state(self._store.authority / "root.pem")
        return f"{INTERNAL} {fingerprint_of(root or b'') or ''}".strip()

    def _new(self, wanted: WantedCertificate, record: CertificateRecord, door: Door | None, *, force: bool) -> Pair:
        if wanted.source == INTERNAL:
            from instar.certificates.own_authority import OwnAuthority

            return OwnAuthority(self._store.authority, self._machine).issue(wanted.names, self._now())
        if door is None:
            raise CertificateError(f"cannot order a certificate of '{wanted.names[0]}': no edge answers for it")
        if not all(map(self.can_prove, wanted.names)):
            raise CertificateError(
                f"cannot order a certificate of '{wanted.names[0]}': no command of this machine writes to the DNS",
                hint=HINT,
            )
        plain = [name for name in wanted.names if not name.startswith("*.")]
        if self._settings.check and not force:
            for name in plain:
                require_here(name, door, port=self._port, resolve=self._resolve)
        return self._order(wanted, record, door)

    def _order(self, wanted: WantedCertificate, record: CertificateRecord, door: Door) -> Pair:
        directory = self._acme()
        door.answer_challenges(directory.thumbprint)
        from instar.certificates.dns_command import DnsCommand
        from instar.certificates.ordering import AcmeOrder

        dns = DnsCommand(self._settings.dns, self._cancellation) if self._settings.dns.command else None
        order = AcmeOrder(
            directory,
            self._store.folder(wanted),
            authority=self._settings.directory,
            dns=dns,
            cancellation=self._cancellation,
            profile=self._settings.profile,
        )
        held = record.certificate
        known = held is not None and record.authority == self._settings.directory and held.names == wanted.names
        return order.obtain(wanted.names, held.renewal_id if held is not None and known else None)

    def _acme(self) -> AcmeDirectory:
        if self._directory is None:
            try:
                from instar.certificates.acme_directory import AcmeDirectory
            except ImportError as error:
                raise ComponentMissing(
                    f"cannot order certificates: the Python package '{error.name}' is missing",
                    hint="it comes with Instar: scripts/setup",
                ) from error
            self._directory = AcmeDirectory(self._settings, self._store)
        return self._directory

    def _renewed(self, wanted: WantedCertificate, before: CertificateRecord, pair: Pair, door: Door | None) -> Renewal:
        record = CertificateRecord(
            certificate=pair.certificate,
            authority=self._authority(wanted),
            recorded=before.recorded,
            warned=before.warned,
        )
        self._store.folder(wanted).put(pair.chain, pair.key, record)
        self.show(wanted, door)
        return Renewal(wanted=wanted, outcome="renewed", record=record)

    def _failed(self, wanted: WantedCertificate, record: CertificateRecord, error: InstarError) -> Renewal:
        asked_for = None
        if isinstance(error, AuthorityBusy) and error.retry_after_s is not None:
            asked_for = timedelta(seconds=error.retry_after_s)
        failures, unreachable, now = record.failures + 1, isinstance(error, NameElsewhere), self._now()
        record = dataclasses.replace(
            record,
            failures=failures,
            error=error.message,
            retry_at=now + schedule.pause_after(failures, wanted.key, asked_for, unreachable=unreachable),
            barred_until=now + schedule.bounded(asked_for) if asked_for is not None else None,
        )
        self._store.folder(wanted).note(record)
        return Renewal(wanted=wanted, outcome="failed", record=record, error=error)


def _parts(text: bytes) -> tuple[bytes, bytes]:
    """Return the certificates and the key of what is kept as one."""
    begin = text.index(b"-----BEGIN", text.rindex(b"-----END CERTIFICATE-----"))
    return text[:begin], text[begin:]
