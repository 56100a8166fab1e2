"""How HAProxy speaks to instances, and how long it keeps its connections to them: pure.

A server that closes an idle connection at the very moment a request is sent on it loses that request, and nobody can
tell whether it was carried out. So a connection serves one request, unless the service says how long it keeps an idle
one open. HAProxy 2.6 cannot say how old a connection may be that it uses again: ``pool-purge-delay`` closes half of
those that nobody needs. But it takes only one again that was opened under the same name, and that is here the part of
the clock in which it was opened, each half as long as the server waits: so none is used that could have been idle for
longer than that. What was opened under a name that has passed, the server closes; ``pool-low-conn`` keeps it from
counting as what is needed. Source: HAProxy 2.6, "sni", "pool-low-conn"; src/server.c, srv_add_to_idle_list.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal

MEDIA_TYPE: Final = re.compile(r"[a-z0-9]{1,60}/[a-z0-9.+-]{1,80}", re.ASCII)
GRPC: Final = "{ req.fhdr(Content-Type) -i -m beg application/grpc }"
_EVENTS: Final = "{ req.fhdr(Accept) -i -m sub text/event-stream }"

Protocol = Literal["http", "h2", "tcp"]

_MANY: Final = 8_192  # as many as there can be requests at a time
_WORDS: Final = 60  # HAProxy takes 64 in a line
_PURGE_MS: Final = 250  # a retired HAProxy has idle ones too: while it has them, their servers have not drained


def mode(protocol: Protocol) -> str:
    return "tcp" if protocol == "tcp" else "http"


def option(keep_alive_ms: int) -> str:
    """Return what holds for all connections; one to a server is kept only where its backend says so too."""
    return "  option http-keep-alive" if keep_alive_ms else "  option http-server-close"


def reuse(protocol: Protocol, keep_alive_ms: int) -> Sequence[str]:
    """Return the rules of the backend of the slots."""
    if keep_alive_ms:
        return ("  http-reuse always",)
    return ("  http-reuse never",) if protocol == "h2" else ()


def server(protocol: Protocol, keep_alive_ms: int) -> str:
    """Return what a server of the slots needs besides its check. One that speaks HTTP/2 keeps its connection after a
    request, unless it has a name of its own and no room is kept for it."""
    words = [" proto h2"] if protocol == "h2" else []
    if keep_alive_ms:
        words.append(f" sni date(0,ms),div({keep_alive_ms // 2}) pool-low-conn {_MANY} pool-purge-delay {_PURGE_MS}ms")
    elif protocol == "h2":
        words.append(" sni uuid() pool-max-conn 0")
    return "".join(words)


def elsewhere(protocol: Protocol, keep_alive_ms: int) -> tuple[Sequence[str], str]:
    """Return the rules of another backend, and what its server needs: nobody says what it keeps open."""
    rules = ("  option http-server-close",) if keep_alive_ms else ()
    return (*rules, *reuse(protocol, 0)), server(protocol, 0)


def streams(stream_ms: int) -> Sequence[str]:
    """Return the rules of a backend. HAProxy 2.6 takes another time-out only while a request comes, so what is a stream
    is told by what the client says that it takes, or sends."""
    return (f"  http-request set-timeout server {stream_ms}ms if {_EVENTS} or {GRPC}",) if stream_ms else ()


def compression(types: Sequence[str]) -> Sequence[str]:
    """Return the rules of a backend: none where no type of answers is compressed."""
    lines = (f"  compression type {' '.join(types[at : at + _WORDS])}" for at in range(0, len(types), _WORDS))
    return ("  compression algo gzip", *lines) if types else ()
