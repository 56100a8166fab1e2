"""Where notices go: a command, a webhook. Each takes one within ten seconds, or says why not."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from instar import process
from instar.errors import InstarError, UsageError

if TYPE_CHECKING:
    from http.client import HTTPConnection

TIMEOUT_S = 10.0


class Undelivered(Exception):
    """Its text is the cause. It names no more of a webhook than its host: the rest of its address may be a secret."""


class Channel(Protocol):
    """Where notices go."""

    def send(self, body: bytes) -> None:
        """Raises Undelivered."""


class Command:
    """Runs a program in ``/`` with the notice on its standard input; it must exit with 0 within the time."""

    def __init__(self, argv: Sequence[str], *, timeout_s: float = TIMEOUT_S) -> None:
        self._argv = tuple(argv)
        self._timeout_s = timeout_s

    def send(self, body: bytes) -> None:
        try:
            process.run(
                self._argv,
                input=body,
                timeout_s=self._timeout_s,
                alone=True,
                cwd=process.ANYWHERE,
                umask=process.MASK,
            )
        except (InstarError, OSError) as error:
            raise Undelivered(str(error)) from error


class Webhook:
    """POSTs the notice as JSON; an answer of 2xx means delivered. No redirect is followed."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        """Raises UsageError for what is no http or https address."""
        try:
            parts = urlsplit(url)
            self._host, self._port = (parts.hostname or "").encode("idna").decode(), parts.port
        except ValueError as error:
            raise UsageError(f"cannot notify '{url}': {error}") from error
        path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        if parts.scheme not in ("http", "https") or not self._host:
            raise UsageError(f"cannot notify '{url}': it is not an http or https address")
        if parts.username is not None:
            raise UsageError(
                f"cannot notify '{self._host}': its address has a user in it",
                hint="name a program that calls it instead, with --notify-command",
            )
        if not path.isascii() or not path.isprintable() or " " in path:
            raise UsageError(f"cannot notify '{url}': write its path with %, as in %20")
        self._secure, self._path, self._timeout_s = parts.scheme == "https", path, timeout_s

    def send(self, body: bytes) -> None:
        from http.client import HTTPConnection, HTTPException, HTTPSConnection

        kind = HTTPSConnection if self._secure else HTTPConnection
        connection, over = kind(self._host, self._port, timeout=self._timeout_s), threading.Event()
        try:
            with _ended_after(connection, self._timeout_s, over):
                headers = {"Content-Type": "application/json", "User-Agent": "instar", "Connection": "close"}
                connection.request("POST", self._path, body, headers)
                status = connection.getresponse().status
        except (OSError, HTTPException, ValueError) as error:
            if not over.is_set():  # else it comes of the cut
                raise Undelivered(f"{self._host}: {error or type(error).__name__}") from error
        finally:
            connection.close()
        if over.is_set():
            raise Undelivered(f"{self._host}: its answer did not end within {self._timeout_s:g} s")
        if status not in range(200, 300):
            raise Undelivered(f"{self._host} answered {status}")


@contextlib.contextmanager
def _ended_after(connection: HTTPConnection, seconds: float, over: threading.Event) -> Iterator[None]:
    """Cut ``connection`` after so long in all, and set ``over`` then: its own time-out begins anew with every byte."""

    def cut() -> None:
        over.set()
        stream: socket.socket | None = connection.sock
        if stream is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(stream, socket.SHUT_RDWR)  # TLS' own takes its state from under the other thread

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
