"""Files of an ecosystem's registry, by HTTP, checked on the way into the cache.

Who is asked for what, and with which password, comes from the machine's own configuration: what authorises a request
is looked up anew for every address, also for one that a registry sends us on to.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urljoin, urlsplit

from instar.errors import FetchError, HashMismatch, SourceUnreachable
from instar.fetch.cache import Cache
from instar.model.digest import Digest
from instar.model.machine import RegistrySettings
from instar.registry.transport import Patience, Transport, pieces, whole

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

T = TypeVar("T")

PATIENCE: Final = Patience(tries=3)
_FILE_LIMIT_BYTES: Final = 2 << 30
_PAGE_LIMIT_BYTES: Final = 64 << 20
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_MOST_REDIRECTS: Final = 5
_PASSING: Final = (408, 425, 429, 500, 502, 503, 504)  # answers that may be another one next time
_GONE: Final = (404, 410)


class Missing(FetchError):
    """The registry has no such file."""


class Downloads:
    """Asks an ecosystem's registries. Safe for threads.

    ``authorise`` gives what a request for an address says of who asks, None for nothing; ``ca``: a file with whom to
    trust, None: as this machine does; ``configured``: where the machine says which registries are asked.
    """

    def __init__(
        self,
        *,
        configured: str,
        authorise: Callable[[str], str | None] = lambda url: None,
        ca: str | None = None,
        environ: Mapping[str, str] = os.environ,
        patience: Patience = PATIENCE,
    ) -> None:
        self._configured = configured
        self._authorise = authorise
        self._ca = ca
        self._environ = environ
        self._patience = patience
        self._transports: dict[str, Transport] = {}

    def page(self, url: str, what: str, *, accept: str = "*/*") -> bytes:
        """Return a small answer; ``what`` it is for is named in errors.

        Raises Missing, SourceUnreachable, FetchError.
        """
        return self._again(lambda: whole(*self._answer(url, what, accept), self._patience, _PAGE_LIMIT_BYTES))

    def keep(self, url: str, what: str, cache: Cache, expected: Digest | None, check: Callable[[Path], None]) -> Digest:
        """Fetch a file into ``cache`` and return its digest; ``check`` raises HashMismatch for what is another one.

        Raises Missing, SourceUnreachable, FetchError, HashMismatch.
        """

        def once() -> Digest:
            response, host = self._answer(url, what, "*/*")
            try:
                return cache.add(_bounded(pieces(response, host, self._patience), what), expected, check=check)
            except HashMismatch as error:
                raise HashMismatch(
                    f"cannot use {what}: what '{host}' sends is another file: {error.message.rpartition(': ')[2]}",
                    hint=f"{self._configured}; nothing of it was kept",
                ) from error
            finally:
                response.close()

        return self._again(once)

    def _again(self, once: Callable[[], T]) -> T:
        pause_s = self._patience.first_pause_s
        for left in range(self._patience.tries - 1, -1, -1):
            try:
                return once()
            except SourceUnreachable:
                if not left:
                    raise
                time.sleep(pause_s)
                pause_s *= 2
        raise AssertionError("the last try returns or raises")

    def _answer(self, url: str, what: str, accept: str) -> tuple[BaseHTTPResponse, str]:
        """Return an answer that has what was asked for, and the host that gave it."""
        for _ in range(_MOST_REDIRECTS + 1):
            host = _host(url, what)
            authorised = self._authorise(url)
            headers = {"Accept": accept, **({"Authorization": authorised} if authorised else {})}
            response = self._send(url, what, headers)
            if response.status not in _REDIRECTS:
                self._require_well(response, host, what, with_password=authorised is not None)
                return response, host
            response.close()
            url = sent_to(url, response.headers.get("Location", ""), what)
        raise FetchError(f"cannot fetch {what}: '{host}' sends us from one address to the next without an end")

    def _send(self, url: str, what: str, headers: Mapping[str, str]) -> BaseHTTPResponse:
        netloc = urlsplit(url).netloc
        if netloc not in self._transports:
            settings = {netloc: RegistrySettings(ca=self._ca)} if self._ca else {}
            self._transports[netloc] = Transport(settings, self._patience, self._environ)
        try:
            return self._transports[netloc].send("GET", url, headers=headers)
        except FetchError as error:
            raise type(error)(f"cannot fetch {what}: {error.message}", hint=self._configured) from error

    def _require_well(self, response: BaseHTTPResponse, host: str, what: str, *, with_password: bool) -> None:
        status = response.status
        if status == 200:
            return
        response.close()
        if status in (401, 403):
            why = "refuses the password that this machine has for it" if with_password else "wants a password"
            raise FetchError(f"cannot fetch {what}: '{host}' {why} (it answers {status})", hint=self._configured)
        told = f"cannot fetch {what}: '{host}' answers {status}"
        if status in _GONE:
            raise Missing(told, hint=self._configured)
        raise (SourceUnreachable if status in _PASSING else FetchError)(told, hint=self._configured)


def _host(url: str, what: str) -> str:
    try:
        parts = urlsplit(url)
        named, port = parts.hostname, parts.port
    except ValueError:
        named, port = None, None
    if not named or parts.scheme not in ("http", "https") or parts.username is not None:
        raise FetchError(f"cannot fetch {what}: its registry's address is none that can be asked")
    return named if port is None else f"{named}:{port}"


def sent_to(url: str, to: str, what: str) -> str:
    """Return where the answer of ``url`` sends us, in a redirect or a page: never from an encrypted address to a plain
    one, which would have passwords go in the clear. Raises FetchError."""
    try:
        new = urljoin(url, to)
    except ValueError:
        new = ""
    host = _host(new, what)
    if urlsplit(url).scheme == "https" and urlsplit(new).scheme == "http":
        raise FetchError(f"cannot fetch {what}: '{_host(url, what)}' sends us to '{host}', without TLS")
    return new


def _bounded(chunks: Iterator[bytes], what: str) -> Iterator[bytes]:
    size_bytes = 0
    for chunk in chunks:
        size_bytes += len(chunk)
        if size_bytes > _FILE_LIMIT_BYTES:
            raise FetchError(f"cannot fetch {what}: it is larger than {_FILE_LIMIT_BYTES:,} bytes")
        yield chunk
