"""A request as an access log has it."""

from __future__ import annotations

import json
from typing import Any

from instar.frozen import dataclass
from instar.model.printable import printable
from instar.model.release import shown_instance

_TEXTS = ("client", "method", "host", "path", "protocol")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedRequest:
    """``bytes`` are those that the client was sent; ``status`` and ``ms``, how long it took, are None where it had no
    answer or went before. ``instance``, ``release`` and ``role``: which answered; None where none did, and of a service
    without roles. ``method``, ``host``,
    ``path`` and ``protocol`` are "-" where what came was no request; ``path`` is "*" of OPTIONS of a whole server,
    "-" of CONNECT, which has none."""

    environment: str
    client: str
    method: str
    host: str
    path: str
    protocol: str
    status: int | None
    bytes: int
    ms: int | None
    instance: str | None = None
    release: int | None = None
    role: str | None = None

    @property
    def text(self) -> str:
        """Return it for people: as many words whatever a client said, host and path one of them."""
        place = "".join(said for said in (self.host, self.path) if said != "-") or "-"
        words = [self.client, self.method, place, self.protocol]
        answered = [str(self.status or "-"), f"{self.bytes} B", "-" if self.ms is None else f"{self.ms} ms"]
        by = "-" if self.instance is None else shown_instance(self.instance, self.role)
        release = "" if self.release is None else f" release {self.release}"
        return " ".join([*(printable(word).replace(" ", "?") for word in words), *answered, by]) + release


def _text(said: object) -> str:
    """Return a text without halves of characters, which JSON can say and nothing can be written with."""
    return str(said).encode(errors="replace").decode()


def read(environment: str, text: str) -> LoggedRequest | None:
    """Return the request of a line of a log; None where the line is damaged."""
    try:
        said: Any = json.loads(text)
        status, size, ms, instance = (said[name] for name in ("status", "bytes", "ms", "instance"))
        client, method, host, path, protocol = (_text(said[name]) for name in _TEXTS)
        if (method, path) == ("OPTIONS", "-"):  # HAProxy finds no path in it. Source: RFC 9112, 3.2.4
            path = "*"
        return LoggedRequest(
            environment=environment,
            client=client,
            method=method,
            host=host,
            path=path,
            protocol=protocol,
            status=int(status) if int(status) > 0 else None,
            bytes=int(size),
            ms=int(ms) if int(ms) >= 0 else None,
            instance=None if instance is None else str(instance),
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
