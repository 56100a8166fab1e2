"""One request and its answer, by HTTP: to whom without TLS, whom to trust, by which proxy, and how long to wait.

urllib3 does the talking. Redirects are not followed here, nothing is tried again, and no body is taken for anything
else than the bytes that came.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from instar.errors import FetchError, HostError, SourceUnreachable
from instar.frozen import dataclass
from instar.model.machine import RegistrySettings
from instar.model.reference import DOCKER
from instar.model.state import machine_file

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

_PIECE_BYTES: Final = 1 << 18
_CONNECTIONS: Final = 8
_LEAST_BYTES_A_SECOND: Final = 1024
_NO_SETTINGS: Final = RegistrySettings()
_DOCKERS_DOOR: Final = "registry-1.docker.io"  # what answers for docker.io. Source: Docker's "Registry HTTP API"
_DOCKERS_TOKENS: Final = "auth.docker.io"


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long is waited for a registry, and how often one is asked again.

    ``read_s``: for the next bytes, and as long an answer may come more slowly than 1 KiB a second. ``tries``: without
    anything that came of them. ``longest_pause_s``: a registry that wants to be left alone for longer is.
    """

    connect_s: float = 20.0
    read_s: float = 60.0
    tries: int = 5
    first_pause_s: float = 0.5
    longest_pause_s: float = 60.0


class Transport:
    """Whom to ask in which way, by the ``settings`` of registries and the proxies of ``environ``. Safe for threads."""

    def __init__(
        self, settings: Mapping[str, RegistrySettings], patience: Patience, environ: Mapping[str, str] = os.environ
    ) -> None:
        self._settings = {host.lower(): one for host, one in settings.items()}
        dockers = self._settings.get(DOCKER, _NO_SETTINGS)
        self._settings[DOCKER] = replace(dockers, tokens=dockers.tokens or _DOCKERS_TOKENS)
        self.patience = patience
        self._proxies = _proxies(environ)
        self._file = machine_file(environ)
        self._managers: dict[tuple[str | None, str], PoolManager] = {}
        self._guard = threading.Lock()

    def settings(self, host: str) -> RegistrySettings:
        """Return what the machine's file says of a host, in whichever letters somebody else wrote its name."""
        return self._settings.get(DOCKER if host == _DOCKERS_DOOR else host.lower(), _NO_SETTINGS)

    def is_plain(self, host: str) -> bool:
        """Tell whether a host is asked without TLS."""
        settings = self.settings(host)
        if settings.http is not None:
            return settings.http
        return settings.ca is None and is_loopback(host)

    def root(self, host: str) -> str:
        door = _DOCKERS_DOOR if host == DOCKER else host
        return f"http://{door}" if self.is_plain(host) else f"https://{door}"

    def require_allowed(self, url: str, *, sent_by: str) -> None:
        """Hold an address that a registry has sent us to against what it may be. Raises FetchError."""
        was = urlsplit(sent_by)
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise FetchError(f"cannot ask '{was.netloc}': it sends us to what is no address") from error
        plain = parts.scheme == "http" and was.scheme == "http" and self.is_plain(parts.netloc)
        if parts.hostname and port != 0 and parts.username is None and (parts.scheme == "https" or plain):
            return
        where = f"{parts.scheme}://{parts.hostname or ''}"
        raise FetchError(
            f"cannot ask '{was.netloc}': it sends us to '{where}', which would be without TLS or is no web address",
            hint="registries.HOST.http in the machine's file allows a host without TLS, where we are sent from one",
        )

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes] | None = None,
    ) -> BaseHTTPResponse:
        """Return the head of an answer; its body is read by :func:`pieces`, or closed.

        Raises SourceUnreachable where none came, FetchError where TLS is not to be trusted.
        """
        import urllib3
        from urllib3 import exceptions

        host = urlsplit(url).netloc
        ours = {"User-Agent": "instar", "Accept-Encoding": "identity", **headers}
        timeout = urllib3.Timeout(connect=self.patience.connect_s, read=self.patience.read_s)
        try:
            return self._manager(url).urlopen(
                method,
                url,
                headers=ours,
                body=body,
                timeout=timeout,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
            )
        except exceptions.SSLError as error:
            raise _tls_error(host, error, self._file) from error
        except (exceptions.HTTPError, OSError, ValueError) as error:
            raise SourceUnreachable(
                f"cannot reach '{host}': {_cause(error)}", hint="check the registry's name, the network and its proxy"
            ) from error

    def _manager(self, url: str) -> PoolManager:
        parts = urlsplit(url)
        trusted = (self.settings(parts.netloc).ca or "") if parts.scheme == "https" else None
        known = trusted, self._proxy(parts.scheme, parts.netloc)
        with self._guard:
            if known not in self._managers:
                self._managers[known] = _pools(*known)
            return self._managers[known]

    def _proxy(self, scheme: str, host: str) -> str:
        proxy = self._proxies.get(scheme) or self._proxies.get("all") or ""
        if not proxy or is_loopback(host):
            return ""
        from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

        if proxy_bypass_environment(host, self._proxies):
            return ""
        return proxy if "://" in proxy else f"http://{proxy}"


def pieces(response: BaseHTTPResponse, host: str, patience: Patience) -> Iterator[bytes]:
    """Yield what comes of a body, as it comes. Raises SourceUnreachable when it breaks off, or all but stands still."""
    from urllib3 import exceptions

    began, came = time.monotonic(), 0
    try:
        while piece := response.read1(_PIECE_BYTES):
            yield piece
            came += len(piece)
            since_s = time.monotonic() - began
            if since_s > patience.read_s:
                if came < since_s * _LEAST_BYTES_A_SECOND:
                    raise SourceUnreachable(f"cannot read from '{host}': {came:,} bytes in {since_s:.0f} s")
                began, came = time.monotonic(), 0
    except (exceptions.HTTPError, OSError, ValueError) as error:
        raise SourceUnreachable(f"cannot read from '{host}': {_cause(error)}") from error


def whole(response: BaseHTTPResponse, host: str, patience: Patience, limit_bytes: int) -> bytes:
    """Return a small body. Raises SourceUnreachable, and FetchError for one that is larger than ``limit_bytes``."""
    data = bytearray()
    for piece in pieces(response, host, patience):
        data += piece
        if len(data) > limit_bytes:
            response.close()
            raise FetchError(f"cannot read from '{host}': its answer has more than {limit_bytes:,} bytes")
    response.release_conn()
    return bytes(data)


def is_loopback(host: str) -> bool:
    """Tell whether a host, with its port or without, is this machine by its very name."""
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _pools(trusted: str | None, proxy: str) -> PoolManager:
    """Return connections by TLS that trust the certificates in a file ("" for this machine's own), None: without, which
    need not read them; through a proxy, "" for none."""
    import urllib3

    options: dict[str, Any] = {"maxsize": _CONNECTIONS}
    if trusted is not None or proxy.startswith("https:"):
        try:
            options["ssl_context"] = ssl.create_default_context(cafile=trusted or None)
        except (OSError, ssl.SSLError) as error:
            raise HostError(
                f"cannot use the certificates in '{trusted}', which the machine's file names: {error.strerror or error}"
            ) from error
    if not proxy:
        return urllib3.PoolManager(**options)
    parts = urlsplit(proxy)
    named = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
    headers = urllib3.make_headers(proxy_basic_auth=named) if named else None
    return urllib3.ProxyManager(proxy, proxy_headers=headers, **options)


def _proxies(environ: Mapping[str, str]) -> dict[str, str]:
    found = {name: environ.get(f"{name}_proxy") or environ.get(f"{name.upper()}_PROXY") for name in _PROXIED}
    return {name: value for name, value in found.items() if value}


_PROXIED: Final = ("http", "https", "all", "no")


# what OpenSSL calls an answer that is no record of TLS. Source: its sslerr.h
_NO_TLS: Final = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")


def _tls_error(host: str, error: Exception, file: Path) -> FetchError:
    text, ground = _cause(error), _ground(error)
    if isinstance(ground, ssl.CertificateError):
        return FetchError(
            f"cannot trust '{host}': {text}",
            hint=f"registries.'{host}'.ca in the machine's file, {file}, names whom to trust",
        )
    if isinstance(ground, ssl.SSLError) and ground.reason in _NO_TLS:
        return FetchError(
            f"cannot speak TLS with '{host}': it answers without",
            hint=f"if that is meant, say so in the machine's file, {file}: registries: {{'{host}': {{http: true}}}}",
        )
    return SourceUnreachable(f"cannot speak TLS with '{host}': {text}")


def _cause(error: BaseException) -> str:
    """Return what lies at the ground of an error, in a few words, and nothing of what was sent."""
    seen = _ground(error)
    if isinstance(seen, ssl.SSLCertVerificationError):
        return str(seen.verify_message)
    if isinstance(seen, OSError) and seen.strerror:
        return str(seen.strerror)
    kind = type(seen).__name__
    names = {
        "ReadTimeoutError": "no answer in time",
        "ConnectTimeoutError": "no answer in time",
        "TimeoutError": "no answer in time",
        "RemoteDisconnected": "it closed the connection without an answer",
        "IncompleteRead": "it broke off",
        "NameResolutionError": "no such host is known",
        "gaierror": "no such host is known",
    }
    return names.get(kind, f"no answer that is HTTP ({kind})")


def _ground(error: BaseException) -> BaseException:
    """Return the error that was first, and led to the others."""
    while isinstance(below := getattr(error, "original_error", None) or error.__cause__ or _wrapped(error), Exception):
        error = below
    return error


def _wrapped(error: BaseException) -> object:
    """Return what urllib3 says that TLS failed of: the one thing that its error holds."""
    return error.args[0] if len(error.args) == 1 else None
