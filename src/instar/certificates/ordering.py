"""An order at an authority that speaks ACME, from its placing to a certificate that was checked.

What the order needs is on disk before it is used (its key, then its address, then what was put into the DNS): killed
anywhere, the next call goes on with the same order, and the authority counts one. An order that has come to nothing is
forgotten; one that merely takes long is kept.

Source: RFC 8555, section 7; RFC 9773, section 5 (``replaces``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from acme import challenges, messages
from cryptography import x509
from josepy.json_util import field

from instar.cancellation import Cancellation
from instar.certificates import pem
from instar.certificates.acme_directory import AcmeDirectory, cause_of
from instar.certificates.dns_command import HINT
from instar.certificates.record import Order
from instar.certificates.store import CertificateFolder
from instar.errors import AuthorityUnavailable, CertificateError, InstarError
from instar.waiting import Deadline

_PATIENCE_S: Final = 300.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0
_MOST_AUTHORIZATIONS: Final = 100
_GONE: Final = (404, 410)


class Dns(Protocol):
    """What writes to the DNS. Each raises CertificateError."""

    def set(self, name: str, value: str) -> None: ...

    def remove(self, name: str, value: str) -> None: ...


class _NewOrder(messages.NewOrder):
    replaces: str = field("replaces", omitempty=True)


class AcmeOrder:
    """The order for one certificate, kept in its ``folder``. ``dns`` None: the machine has no command for it."""

    def __init__(
        self,
        directory: AcmeDirectory,
        folder: CertificateFolder,
        *,
        authority: str,
        dns: Dns | None,
        cancellation: Cancellation,
        profile: str | None = None,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._directory = directory
        self._folder = folder
        self._authority = authority
        self._dns = dns
        self._cancellation = cancellation
        self._profile = profile
        self._patience_s = patience_s

    def obtain(self, names: Sequence[str], replaces: str | None = None) -> pem.Pair:
        """Return a new certificate of ``names``. ``replaces``: the renewal id of the one in whose place it comes.

        Raises AuthorityUnavailable, CertificateError, HostError, Cancelled.
        """
        deadline = Deadline.after(self._patience_s)
        self._clear_dns()
        try:
            order, key = self._begun(tuple(names), replaces)
            return self._proven(order, key, deadline)
        except AuthorityUnavailable:
            raise
        except CertificateError:
            self._folder.drop_order()
            raise

    def _proven(self, order: Order, key: bytes, deadline: Deadline) -> pem.Pair:
        try:
            return self._followed(order, key, deadline)
        finally:
            self._clear_dns()

    def _begun(self, names: tuple[str, ...], replaces: str | None) -> tuple[Order, bytes]:
        """Return the order that is under way, or a new one, with its key: both are on disk."""
        order, key = self._folder.order(), self._folder.order_key()
        if order is None or key is None or order.authority != self._authority or order.names != names:
            order, key = Order(authority=self._authority, names=names), pem.new_key()
            self._folder.begin_order(order, key)
        if order.url is not None and self._state(order) is None:
            order = dataclasses.replace(order, url=None)
        if order.url is None:
            order = dataclasses.replace(order, url=self._placed(names, replaces))
            self._folder.keep_order(order)
        return order, key

    def _placed(self, names: Sequence[str], replaces: str | None) -> str:
        """Place an order; as any other where the authority does not take it for the renewal that it is: what it comes
        in the place of may have been replaced by an order that came to nothing."""
        if replaces is not None:
            try:
                return self._order(names, replaces)
            except AuthorityUnavailable:
                raise
            except CertificateError:
                pass
        return self._order(names, None)

    def _order(self, names: Sequence[str], replaces: str | None) -> str:
        what = f"order a certificate of '{names[0]}'"
        identifiers = tuple(messages.Identifier(typ=messages.IDENTIFIER_FQDN, value=name) for name in names)
        wanted: dict[str, Any] = {"identifiers": identifiers, "profile": self._profile, "replaces": replaces}
        body = _NewOrder(**{name: value for name, value in wanted.items() if value is not None})
        url = self._directory.url("newOrder", what=what)
        answer = self._directory.post(url, body, what=what)
        if not answer.headers.get("Location", "").startswith("https://"):
            raise CertificateError(f"cannot {what}: the authority's answer does not say where the order is")
        return str(answer.headers["Location"])

    def _state(self, order: Order) -> messages.Order | None:
        """Return what became of an order; None when the authority does not know it any more."""
        what = f"follow the order of '{order.names[0]}'"
        try:
            answer = self._directory.post(str(order.url), what=what)
        except AuthorityUnavailable:
            raise
        except CertificateError:
            if self._directory.last_status in _GONE:
                return None
            raise
        return self._directory.read(messages.Order, answer, what=what)

    def _followed(self, order: Order, key: bytes, deadline: Deadline) -> pem.Pair:
        """Do what the order's state asks for until there is a certificate."""
        pause_s, finalized = _FIRST_PAUSE_S, False
        while True:
            self._cancellation.check()
            state = self._state(order)
            if state is None or state.status == messages.STATUS_INVALID:
                cause = cause_of(state.error) if state else "it does not know the order any more"
                raise CertificateError(f"cannot get a certificate of '{order.names[0]}': the authority says: {cause}")
            if state.status == messages.STATUS_VALID and state.certificate:
                return self._download(order, str(state.certificate), key)
            if state.status == messages.STATUS_PENDING:
                self._prove(order, state.authorizations or (), deadline)
            elif state.status == messages.STATUS_READY and not finalized:
                self._finalize(order, str(state.finalize), key)
                finalized = True
            self._pause(min(pause_s, _LONGEST_PAUSE_S), order, deadline)
            pause_s *= 1.6

    def _prove(self, order: Order, urls: Sequence[str], deadline: Deadline) -> None:
        """Show the authority that each name is ours. Raises CertificateError with what it says where it does not
        believe it."""
        what = f"prove '{order.names[0]}'"
        if len(urls) > _MOST_AUTHORIZATIONS:
            raise CertificateError(f"cannot {what}: the authority asks for {len(urls)} proofs")
        for url in urls:
            found = self._authorization(url, what)
            if found.status == messages.STATUS_PENDING:
                self._answer(order, url, found, deadline)

    def _authorization(self, url: str, what: str) -> messages.Authorization:
        return self._directory.read(messages.Authorization, self._directory.post(url, what=what), what=what)

    def _answer(self, order: Order, url: str, found: messages.Authorization, deadline: Deadline) -> None:
        name = f"{'*.' * bool(found.wildcard)}{found.identifier.value}"
        what = f"prove '{name}'"
        if name not in order.names:
            raise CertificateError(f"cannot {what}: the authority asks for a name that was not ordered")
        kind = challenges.DNS01 if found.wildcard else challenges.HTTP01
        challenge = next((one for one in found.challenges if isinstance(one.chall, kind)), None)
        if challenge is None:
            raise CertificateError(f"cannot {what}: the authority offers no '{kind.typ}'")
        if found.wildcard:
            self._set_dns(order, found.identifier.value, challenge.chall.validation(self._directory.key))
        self._directory.post(challenge.uri, challenge.response(self._directory.key), what=what)
        pause_s = _FIRST_PAUSE_S
        while (found := self._authorization(url, what)).status in (messages.STATUS_PENDING, messages.STATUS_PROCESSING):
            self._pause(min(pause_s, _LONGEST_PAUSE_S), order, deadline)
            pause_s *= 1.6
        if found.status != messages.STATUS_VALID:
            causes = [cause_of(one.error) for one in found.challenges or () if one.error is not None]
            raise CertificateError(f"cannot {what}: the authority says: {'; '.join(causes) or 'no reason'}")

    def _set_dns(self, order: Order, name: str, value: str) -> None:
        if self._dns is None:
            raise CertificateError(
                f"cannot prove '*.{name}': no command of this machine writes to the DNS",
                hint=HINT,
            )
        hooked = f"_acme-challenge.{name} {value}"
        kept = self._folder.order() or order
        self._folder.keep_order(dataclasses.replace(kept, hooked=(*kept.hooked, hooked)))
        self._dns.set(*hooked.split(" "))

    def _clear_dns(self) -> None:
        """Take away what was put into the DNS for this order, by whomever. A record that stays does no harm: that it
        could not be removed is no reason not to have the certificate, and it is tried again with the next order."""
        order = self._folder.order()
        if order is None or not order.hooked or self._dns is None or self._cancellation.requested:
            return
        left = []
        for hooked in order.hooked:
            try:
                self._dns.remove(*hooked.split(" "))
            except InstarError:
                left.append(hooked)
        self._folder.keep_order(dataclasses.replace(order, hooked=tuple(left)))

    def _finalize(self, order: Order, url: str, key: bytes) -> None:
        csr = x509.load_pem_x509_csr(pem.request(order.names, key))
        what = f"get a certificate of '{order.names[0]}'"
        self._directory.post(url, messages.CertificateRequest(csr=csr), what=what)

    def _download(self, order: Order, url: str, key: bytes) -> pem.Pair:
        answer = self._directory.post(url, what=f"get the certificate of '{order.names[0]}'")
        try:
            return pem.read_pair(answer.content, key, order.names, datetime.now(UTC))
        except pem.Unfit as error:
            raise CertificateError(
                f"cannot use the certificate of '{order.names[0]}' that the authority gave: {error}"
            ) from error

    def _pause(self, seconds: float, order: Order, deadline: Deadline) -> None:
        self._cancellation.pause(seconds)
        self._cancellation.check()
        if deadline.is_over:
            raise AuthorityUnavailable(
                f"cannot get a certificate of '{order.names[0]}': the authority was not ready within "
                f"{self._patience_s:g} s; the order goes on"
            )
