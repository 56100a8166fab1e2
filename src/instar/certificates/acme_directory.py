"""An authority that speaks ACME: its directory, and our account there. The only module that reaches it.

What it answers is data: bounded in size and time, its errors told apart by their types, its words printable. An error
that passes by itself (it does not answer, it says: too many) is AuthorityUnavailable, with the pause that it asked for.

Source: RFC 8555; RFC 9773 (renewal information).
"""

from __future__ import annotations

import contextlib
import email.utils
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import requests
from acme import client, errors, messages
from acme.client import ClientNetwork
from cryptography.hazmat.primitives.asymmetric import ec
from josepy.b64 import b64encode
from josepy.errors import Error as JoseError
from josepy.json_util import JSONObjectWithFields
from josepy.jwa import ES256
from josepy.jwk import JWK, JWKEC
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse, HTTPSConnectionPool
from urllib3.connection import HTTPSConnection

from instar import __version__, durable
from instar.certificates import pem
from instar.certificates.store import CertificateStore, read_state, written_in
from instar.errors import AuthorityBusy, AuthorityUnavailable, CertificateError
from instar.frozen import dataclass
from instar.model.certificate import Certificate
from instar.model.digest import Digest
from instar.model.machine import AcmeSettings
from instar.model.printable import printable

J = TypeVar("J", bound=JSONObjectWithFields)

_TIMEOUT_S: Final = 15
_ANSWER_S: Final = 60.0  # of a whole answer, however slowly it comes
_LIMIT_BYTES: Final = 1 << 20
_PIECE_BYTES: Final = 65_536
_NONCES: Final = 5  # a nonce that is refused comes with the next one
_LONGEST_CAUSE: Final = 300
_PASSES: Final = ("rateLimited", "serverInternal", "badNonce")
_TOO_MANY_S: Final = 3600.0  # of which no authority has said how long it lasts
_UNAVAILABLE: Final = (429, 500, 502, 503, 504)


@dataclass(frozen=True, kw_only=True, slots=True)
class RenewalWindow:
    """When an authority would have a certificate renewed, and when it wants to be asked again."""

    start: datetime
    end: datetime
    ask_at: datetime


class AcmeDirectory:
    """The authority that the machine's settings name, as one account."""

    def __init__(self, settings: AcmeSettings, store: CertificateStore) -> None:
        self._settings = settings
        digest = Digest.of(settings.directory.encode()).hex[:16]
        key = _account_key(store, digest)
        self.key = JWKEC(key=key)
        self._network = _Network(self.key, settings.ca or True)
        self._directory: messages.Directory | None = None

    @property
    def thumbprint(self) -> str:
        """What answers of http-01 end with: that of the account's key. Source: RFC 7638."""
        return b64encode(self.key.thumbprint()).decode()

    def post(self, url: str, body: Any = None, *, what: str) -> requests.Response:
        """Ask as our account; without a body, only for what is there. ``what`` it is for is in the error.

        Raises AuthorityUnavailable, CertificateError.
        """
        with self._own_errors(what):
            if self._network.account is None:
                self._enter()
            return self._network.post(url, body, new_nonce_url=self._resource("newNonce"))

    @property
    def last_status(self) -> int | None:
        """The status of its last answer."""
        return self._network.status

    def read(self, kind: type[J], answer: requests.Response, *, what: str) -> J:
        """Return what an answer holds. Raises CertificateError where it is no ``kind``."""
        with self._own_errors(what):
            found: J = kind.from_json(answer.json())
            return found

    def url(self, name: str, *, what: str) -> str:
        """Return the address of one of its resources. Raises AuthorityUnavailable, CertificateError."""
        with self._own_errors(what):
            return self._resource(name)

    def renewal_window(self, held: Certificate) -> RenewalWindow | None:
        """Return when it would have ``held`` renewed; None where it does not say. Raises AuthorityUnavailable,
        CertificateError."""
        with self._own_errors(f"ask when '{held.names[0]}' is to be renewed"):
            base = self._contents().to_partial_json().get("renewalInfo")
            if base is None or held.renewal_id is None:
                return None
            answer = self._network.get(f"{base}/{held.renewal_id}", content_type=ClientNetwork.JSON_CONTENT_TYPE)
            window = messages.RenewalInfo.from_json(answer.json()).suggested_window
            again = _seconds(answer.headers.get("Retry-After")) or 6 * 3600
            now = datetime.now(UTC)
            ask_at = now + timedelta(seconds=min(max(again, 60), 24 * 3600))
            return RenewalWindow(start=_aware(window.start), end=_aware(window.end), ask_at=ask_at)

    def _contents(self) -> messages.Directory:
        if self._directory is None:
            self._directory = client.ClientV2.get_directory(self._settings.directory, self._network)
        return self._directory

    def _resource(self, name: str) -> str:
        return str(self._contents()[name])

    def _enter(self) -> None:
        """Make the account, or learn what the one of this key is called."""
        contact = (f"mailto:{self._settings.contact}",) if self._settings.contact else ()
        wanted = messages.NewRegistration(contact=contact, terms_of_service_agreed=True)
        answer = self._network.post(self._resource("newAccount"), wanted, new_nonce_url=self._resource("newNonce"))
        self._network.account = messages.RegistrationResource(
            body=messages.Registration(), uri=answer.headers["Location"]
        )

    @contextlib.contextmanager
    def _own_errors(self, what: str) -> Iterator[None]:
        """Tell every error of libraries and servers as one of ours."""
        host = urlsplit(self._settings.directory).netloc
        try:
            yield
        except messages.Error as error:
            raise self._problem(what, host, error) from error
        except requests.JSONDecodeError as error:
            raise _no_acme(what, host, error) from error
        except requests.RequestException as error:
            raise self._unavailable(what, host, _reason(error)) from error
        except errors.ClientError as error:
            if self._network.status is not None and self._network.status not in _UNAVAILABLE:
                raise CertificateError(f"cannot {what}: '{host}': {_answered(error)}", hint=_HINT) from error
            raise self._unavailable(what, host, _answered(error)) from error
        except OSError as error:  # of a file with whom to trust
            raise CertificateError(
                f"cannot {what}: {printable(str(error))}", hint="see 'acme.ca' in the machine's file"
            ) from error
        except (JoseError, errors.Error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _no_acme(what, host, error) from error

    def _problem(self, what: str, host: str, error: messages.Error) -> CertificateError:
        text = f"cannot {what}: '{host}' says: {cause_of(error)}"
        if error.code in _PASSES or self._network.status in _UNAVAILABLE:
            return self._unavailable(what, host, f"it says: {cause_of(error)}")
        if error.code == "externalAccountRequired":
            return CertificateError(text, hint="such an authority is not supported: choose another 'acme.directory'")
        return CertificateError(text)

    def _unavailable(self, what: str, host: str, cause: str) -> AuthorityUnavailable:
        wait_s = self._network.retry_after_s
        text = f"cannot {what}: '{host}' is not available: {cause}"
        if wait_s:
            return AuthorityBusy(f"{text}, not before {wait_s} s have passed", retry_after_s=wait_s)
        if self._network.status == 429:
            return AuthorityBusy(text, retry_after_s=_TOO_MANY_S)
        return AuthorityUnavailable(text)


_HINT: Final = "is 'acme.directory' in the machine's file the address of a directory?"


class _Network(ClientNetwork):
    """As the library's, with bounds. ``status`` and ``retry_after_s`` are of the last answer."""

    def __init__(self, key: JWK, verify: str | bool) -> None:
        super().__init__(key, alg=ES256, timeout=_TIMEOUT_S, user_agent=f"instar/{__version__}")
        self.verify_ssl = verify  # type: ignore[assignment]  # requests takes the path of a file as well
        self.session.max_redirects = 3
        self.session.mount("https://", _Bounded())
        self.session.mount("http://", _Refused())
        self.status: int | None = None
        self.retry_after_s: int | None = None

    def post(self, *args: Any, **kwargs: Any) -> requests.Response:
        for _ in range(_NONCES):
            try:
                return self._post_once(*args, **kwargs)
            except messages.Error as error:
                if error.code != "badNonce":
                    raise
                refused = error
        raise refused

    def _send_request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        self.status = self.retry_after_s = None
        answer = super()._send_request(method, url, *args, **kwargs)
        self.status, self.retry_after_s = answer.status_code, _seconds(answer.headers.get("Retry-After"))
        return answer


class _Refused(HTTPAdapter):
    """Asks nobody: all of ACME is of https, wherever an authority sends us. Source: RFC 8555, 6.1."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        raise ValueError(f"it sends us to an address that is not of https: {request.url}")


class _Connection(HTTPSConnection):
    """One whose answers have begun in time: a time-out of its socket begins anew with every byte."""

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as the library itself has it
        timer = threading.Timer(_ANSWER_S, _cut, [self.sock])
        timer.daemon = True
        timer.start()
        try:
            return super().getresponse()
        finally:
            timer.cancel()


class _Connections(HTTPSConnectionPool):
    ConnectionCls = _Connection


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # TLS's own would take its state from under who reads


class _Bounded(HTTPAdapter):
    """Reads answers to their end, within bounds: requests' own time-out begins anew with every byte."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"https": _Connections}

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["stream"] = True
        answer = super().send(request, *args, **kwargs)
        until, data = time.monotonic() + _ANSWER_S, bytearray()
        try:
            while piece := answer.raw.read1(_PIECE_BYTES, decode_content=True):
                data += piece
                if len(data) > _LIMIT_BYTES:
                    raise requests.ConnectionError(f"its answer is larger than {_LIMIT_BYTES:,} bytes")
                if time.monotonic() > until:
                    raise requests.Timeout(f"its answer did not end within {_ANSWER_S:g} s")
        except (OSError, ValueError) as error:
            answer.raw.close()
            if isinstance(error, requests.RequestException):
                raise
            raise requests.ConnectionError(str(error)) from error
        answer._content = bytes(data)
        answer._content_consumed = True
        answer.raw.release_conn()
        return answer


def _no_acme(what: str, host: str, error: Exception) -> CertificateError:
    cause = printable(str(error))[:_LONGEST_CAUSE]
    return CertificateError(f"cannot {what}: '{host}' does not answer as ACME has it ({cause})", hint=_HINT)


def cause_of(error: messages.Error | None) -> str:
    """Return what an authority says is wrong, with what it says of each name."""
    if error is None:
        return "no reason"
    parts = [str(error.detail or error.title or error.typ)]
    parts += [str(one.detail or one.typ) for one in error.subproblems or ()]
    code = f" ({error.code})" if error.code else ""
    return printable("; ".join(parts))[:_LONGEST_CAUSE] + code


def _account_key(store: CertificateStore, digest: str) -> ec.EllipticCurvePrivateKey:
    """Return the key of the account, made when it is first needed. Raises CertificateError, HostError."""
    path = store.account(digest)
    data = read_state(path)
    if data is None:
        with written_in(path.parent):
            durable.write_once(path, pem.new_key())
        data = read_state(path) or b""
    try:
        key = pem.read_key(data)
    except pem.Unfit as error:
        raise CertificateError(
            f"cannot use '{path}': {error}", hint="remove it: a new account is made, and certificates go on"
        ) from error
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _reason(error: requests.RequestException) -> str:
    """Return why a request failed, without what libraries say around it."""
    if isinstance(error, requests.Timeout):
        return f"no answer within {_TIMEOUT_S} s"
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted here: {printable(inner.verify_message)}"
        if isinstance(inner, OSError) and inner.strerror:
            return printable(inner.strerror)
        inner = inner.__cause__ or inner.__context__
    return printable(str(error))[:_LONGEST_CAUSE]


def _answered(error: errors.ClientError) -> str:
    first = error.args[0] if error.args else error
    if isinstance(first, tuple):
        first = first[0]
    return f"it answered {first.status_code}" if isinstance(first, requests.Response) else printable(str(error))[:300]


def _seconds(text: str | None) -> int | None:
    """Return what a Retry-After asks for, in seconds. Source: RFC 9110, 10.2.3."""
    if text is None:
        return None
    if text.strip().isdigit():
        return min(int(text.strip()[:9]), 10**8)
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0, int((_aware(moment) - datetime.now(UTC)).total_seconds()))


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
