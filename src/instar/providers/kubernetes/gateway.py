"""A Gateway as whoever sends it requests finds it: where it can be asked, and what it answers to a question of ours.

What it says is somebody else's: of an answer no more is read than its beginning, within its time. Certificates are not
looked at, since nothing is believed but which version of a route is in force, and nothing is said that is secret.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from instar.frozen import dataclass
from instar.providers.kubernetes.kinds import ROUTE
from instar.waiting import Deadline

_TIMEOUT_S: Final = 2.0
_CONNECTS_S: Final = 1.0
_MOST_READ: Final = 16 << 10
_MOST_ENTRANCES: Final = 32
_MOST_ADDRESSES: Final = 8
_SCHEMES: Final = {"HTTP": False, "HTTPS": True}
_NAME: Final = "kubernetes.io/metadata.name"  # the label of a namespace that says its name
_ANY: Final = "instar-route"  # stands for what a name with a wildcard leaves open


@dataclass(frozen=True, kw_only=True, slots=True)
class Entrance:
    """An address and port of a Gateway, asked as ``host``."""

    address: str
    port: int
    tls: bool
    host: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """``redirected``: the host that the answer sends to, None where it sends nowhere."""

    status: int
    redirected: str | None


def entrances(found: Mapping[str, Any], hosts: Sequence[str]) -> tuple[Entrance, ...]:
    """Return where a Gateway says that it is asked by these names (32 at most); none where it has no address."""
    said = (found.get("status") or {}).get("addresses") or ()
    addresses = [str(one["value"]) for one in said if isinstance(one, Mapping) and _is_address(one)]
    made = [
        Entrance(address=address, port=port, tls=tls, host=host)
        for address in addresses[:_MOST_ADDRESSES]
        for port, tls, pattern in _listeners(found)
        for host in (one.replace("*", _ANY, 1) for one in hosts)
        if pattern is None or _fits(pattern, host)
    ]
    return tuple(dict.fromkeys(made))[:_MOST_ENTRANCES]


def plain_listeners(found: Mapping[str, Any], namespace: str, hosts: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """Return by which listeners of HTTP a Gateway takes routes of a namespace for these names, each with its name. One
    that says whose it takes by labels is only known where these are a namespace's name."""
    own = str((found.get("metadata") or {}).get("namespace"))
    taken = {}
    for one in (found.get("spec") or {}).get("listeners") or ():
        pattern = one.get("hostname")
        fitting = tuple(host for host in hosts if not pattern or _meets(str(pattern), host))
        if one.get("protocol") == "HTTP" and fitting and _takes(one.get("allowedRoutes") or {}, own, namespace):
            taken[str(one.get("name"))] = fitting
    return taken


def ask(entrance: Entrance, path: str, headers: Mapping[str, str]) -> Answer | None:
    """GET a path on a connection of its own; None where there was no answer that is one, for whatever reason."""
    lines = {"Host": entrance.host, "User-Agent": "instar", "Connection": "close", **headers}
    request = "".join([f"GET {path} HTTP/1.1\r\n", *(f"{name}: {value}\r\n" for name, value in lines.items()), "\r\n"])
    deadline = Deadline.after(_TIMEOUT_S)
    try:
        with _connected(entrance, deadline) as connection:
            connection.sendall(request.encode("ascii"))
            return _answer(_beginning(connection, deadline))
    except (OSError, ValueError, http.client.HTTPException):
        return None


def is_reachable(entrance: Entrance) -> bool:
    """Tell whether something listens there."""
    try:
        socket.create_connection((entrance.address, entrance.port), timeout=_CONNECTS_S).close()
    except (OSError, ValueError):
        return False
    return True


def _is_address(said: Mapping[str, Any]) -> bool:
    value = said.get("value")
    named = said.get("type", "IPAddress") in ("IPAddress", "Hostname")
    return named and isinstance(value, str) and 0 < len(value) <= 253


def _listeners(found: Mapping[str, Any]) -> Iterator[tuple[int, bool, str | None]]:
    for one in (found.get("spec") or {}).get("listeners") or ():
        port, tls, pattern = one.get("port"), _SCHEMES.get(str(one.get("protocol"))), one.get("hostname")
        if tls is not None and isinstance(port, int) and 0 < port < 1 << 16:
            yield port, tls, str(pattern) if pattern else None


def _fits(pattern: str, host: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def _meets(pattern: str, host: str) -> bool:
    """Tell whether a listener's name and a route's, either of which may be one with a wildcard, have any in common."""
    return _fits(pattern, host) or _fits(host, pattern) or (host.startswith("*.") and _fits(pattern, host[2:]))


def _takes(allowed: Mapping[str, Any], own: str, namespace: str) -> bool:
    """Source: gateway.networking.k8s.io/v1, AllowedRoutes: of the Gateway's own namespace where nothing is said."""
    kinds = [one.get("kind") for one in allowed.get("kinds") or ()]
    whose = allowed.get("namespaces") or {}
    asked = (whose.get("selector") or {}).get("matchLabels") or {}
    by_name = whose.get("from") == "Selector" and asked == {_NAME: namespace}
    of_all = whose.get("from") == "All" or (whose.get("from", "Same") == "Same" and own == namespace)
    return (not kinds or ROUTE.name in kinds) and (of_all or by_name)


def _connected(entrance: Entrance, deadline: Deadline) -> contextlib.closing[socket.socket]:
    connection = socket.create_connection((entrance.address, entrance.port), timeout=_CONNECTS_S)
    # else the request waits until the end of TLS' handshake is acknowledged, 40 ms later
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not entrance.tls:
        return contextlib.closing(connection)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        connection.settimeout(max(deadline.left_s, 0.01))
        return contextlib.closing(context.wrap_socket(connection, server_hostname=entrance.host))
    except BaseException:
        connection.close()
        raise


def _beginning(connection: socket.socket, deadline: Deadline) -> bytes:
    """Read the head of an answer, whole. Raises OSError, ValueError where that does not come."""
    read = b""
    while b"\r\n\r\n" not in read:
        connection.settimeout(max(deadline.left_s, 0.01))
        piece = connection.recv(4096)
        if not piece or len(read) > _MOST_READ or deadline.is_over:
            raise ValueError("that is no answer")
        read += piece
    return read


def _answer(head: bytes) -> Answer:
    """Raises ValueError, HTTPException for what is no answer of HTTP."""
    stream = io.BytesIO(head)
    protocol, _, rest = stream.readline().decode("latin-1").partition(" ")
    if not protocol.startswith("HTTP/1."):
        raise ValueError("that is not HTTP")
    location = http.client.parse_headers(stream).get("Location")
    return Answer(status=int(rest[:3]), redirected=None if location is None else urlsplit(location).hostname)
