"""The edge's file, haproxy.cfg, as text: pure. All that changes while it runs is in files beside it.

Like a router's, it says in its first line the plan that it was made from, and is the truth after a restart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field, replace
from typing import Final

from instar.errors import RouterError
from instar.frozen import dataclass
from instar.model.codec import ADDED, canonical, from_json, parse
from instar.model.definition import Headers
from instar.router import address, headers, in_front
from instar.router.address import Address
from instar.router.config import LISTEN, SOCKET
from instar.router.edge import names
from instar.router.edge.answers import ANSWERS
from instar.router.edge.certificates import LIST

ROOT: Final = "INSTAR_ROOT"  # the variable of HAProxy's root directory, which has the routers' sockets and nothing else
TICKETS: Final = "tickets"
FEWEST_SLOTS: Final = 64
MOST_SLOTS: Final = 4096
_PLAN: Final = "# plan "
_MOST: Final = 16_384  # connections at a time
MOST_OF_ONE: Final = _MOST // 2  # of one address, or one network /64 of IPv6
_CLIENTS: Final = "clients"
_STOP_MS: Final = 24 * 3_600_000  # so long a retired HAProxy may finish what it has
LEAST_SILENT_MS, LONGEST_SILENT_MS = 70_000, 3_600_000
_LATER_MS: Final = 10_000  # than a router, which says why it ends a request
_KEEP_ALIVE_MS: Final = 60_000

# Source: Mozilla's "Server Side TLS" 5.7, intermediate, without what needs Diffie-Hellman parameters.
_CIPHERS: Final = ":".join(
    f"ECDHE-{key}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for key in ("ECDSA", "RSA")
)
_SUITES: Final = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"

_HOST: Final = (
    "  http-request deny deny_status 405 if { method CONNECT }",
    '  http-request return status 400 content-type text/plain string "no host\\n" unless { req.fhdr(Host) -m found }',
    "  http-request set-var(txn.host) req.fhdr(Host),host_only,lower,rtrim(.)",
    '  http-request return status 400 content-type text/plain string "no such host\\n"'
    " unless { var(txn.host) -m reg ^([a-z0-9._-]+|\\[[0-9a-f:.]+\\])$ }",
)
_NONCE: Final = (
    f"  http-request set-var(txn.nonce) str(nonce),map_str({ANSWERS})",
    '  http-request return status 200 content-type text/plain lf-string "%[var(txn.nonce)]" if'
    " { path -m beg /.well-known/instar/ } { path,field(4,/),strcmp(txn.nonce) eq 0 }",
    '  http-request return status 404 content-type text/plain string "not here\\n" if'
    " { path -m beg /.well-known/instar/ }",
)
_SNI: Final = (
    '  http-request return status 421 content-type text/plain string "ask for this name in a connection of its own\\n"'
    " unless { ssl_fc_sni,lower,rtrim(.),strcmp(txn.host) eq 0 }",
)
_NOT_RESUMED: Final = ("  http-request return status 421 if { ssl_fc_is_resumed }",)
_ENTRY: Final = (
    "  http-request set-var(txn.path) path",
    "  http-request set-var(txn.key) var(txn.host),concat(,txn.path,/)",
    f"  http-request set-var(txn.entry) var(txn.key),map_beg({names.MAP})",
    "  acl known var(txn.entry) -m found",
    "  http-request set-var(txn.key) str(*.),concat(,txn.host),regsub(^..[^.]*,*),concat(,txn.path,/) unless known",
    f"  http-request set-var(txn.entry) var(txn.key),map_beg({names.MAP}) unless known",
    '  http-request return status 404 content-type text/plain string "nothing here by that name\\n" unless known',
)
# A service that takes "/blog/../x", or what it is when it is decoded, for "/x" would be reached where it is not to be.
_INSIDE: Final = (
    r"  acl climbs path -m reg -i '(^|[/\\]|%2f|%5c)(\.|%2e){2}([/\\;]|%2f|%5c|%3b|$)'",
    f"  http-request set-var(txn.whole) var(txn.host),concat(/),map_str({names.MAP}) if climbs",
    f"  http-request set-var(txn.whole) str(*.),concat(,txn.host),regsub(^..[^.]*,*),concat(/),map_str({names.MAP})"
    " if climbs !{ var(txn.whole) -m found }",
    '  http-request return status 400 content-type text/plain string "a path without .. is asked for here\\n"'
    " if climbs !{ var(txn.entry),strcmp(txn.whole) eq 0 }",
)
_CHALLENGE: Final = (
    f"  http-request set-var(txn.thumbprint) str(thumbprint),map_str({ANSWERS})",
    "  http-request return status 200 content-type text/plain lf-string"
    ' "%[path,field(4,/)].%[var(txn.thumbprint)]" if { var(txn.entry) -m str https/challenge }'
    " { path -m reg ^/\\.well-known/acme-challenge/[A-Za-z0-9_-]+$ } { var(txn.thumbprint) -m found }",
)
_NOBODYS: Final = (
    '  http-request return status 404 content-type text/plain string "no challenge\\n"'
    " if { var(txn.entry) -m str https/challenge }",
    '  http-request return status 503 content-type text/plain string "nothing can be asked here by https yet\\n"'
    " if { var(txn.entry) -m str https/closed }",
)
_REDIRECT: Final = (
    "  http-request redirect code 308 location {scheme}://%[var(txn.entry),field(3,/)]{port}%[pathq] if"
    " {{ var(txn.entry) -m beg {scheme}/redirect/ }}"
)
_TO_HTTPS: Final = (
    "  http-request redirect code 308 location https://%[var(txn.host)]{port}%[pathq] if"
    " {{ var(txn.entry) -m beg https/to/ }}"
)
_NOT_SECURE: Final = (
    '  http-request return status 421 content-type text/plain string "nothing here by that name\\n"'
    " unless { var(txn.entry) -m beg https/ }",
)
_CLIENT: Final = (
    "  http-request set-header Client-Cert :%[ssl_c_der,base64]: if { ssl_c_used }",
    "  http-after-response set-header Strict-Transport-Security max-age=%[var(txn.entry),field(4,/)]"
    " if { var(txn.entry) -m beg https/to/ } !{ var(txn.entry),field(4,/) 0 }",
)
_BACKEND: Final = "  use_backend %[var(txn.entry),field(3,/)]"


FORM: Final = 2  # counted up with whatever changes of the files for the same plan


@dataclass(frozen=True, kw_only=True, slots=True)
class EdgePlan:
    """All about the edge besides names and certificates. ``headers``: the largest heads that any service takes.

    ``silent_ms``: how long a client may be silent: a little longer than any router lets it, which says so. It is also
    how long HAProxy 2.6 waits for the handshake of a client that never sends one, and keeps a connection for it.

    ``clients``: some name asks clients for certificates. Then no TLS session is taken up again: one that was begun for
    a name that asks for none, or for another authority's, would be taken for a name that does. ``accept_proxy``: the
    servers in front that say who asks. ``form``: of the file; one of an older form is written anew, never again.
    """

    http: tuple[str, ...]
    https: tuple[str, ...]
    slots: int = FEWEST_SLOTS
    headers: Headers = Headers()
    clients: bool = False
    silent_ms: int = field(default=LEAST_SILENT_MS, metadata=ADDED)
    accept_proxy: tuple[str, ...] = field(default=(), metadata=ADDED)
    form: int = field(default=1, metadata=ADDED)

    def with_room(self, headers: Headers, silent_ms: int) -> EdgePlan:
        """Return the plan with room for such heads, and for clients that are silent so long, besides what it has. It
        never has less than usual: certificates come through the same buffers."""
        size_bytes = max(self.headers.size_bytes, headers.size_bytes)
        count = max(self.headers.count, headers.count)
        wide = Headers(size_bytes=size_bytes, count=count)
        return replace(self, headers=wide, silent_ms=max(self.silent_ms, silent_ms))

    @property
    def addresses(self) -> tuple[Address, ...]:
        return tuple(address.parse(text) for text in (*self.http, *self.https))

    @property
    def https_port(self) -> str:
        """Return what follows a name in an address of https."""
        port = address.parse(self.https[0]).port if self.https else 443
        return "" if port == 443 else f":{port}"

    @property
    def http_port(self) -> str:
        port = address.parse(self.http[0]).port if self.http else 80
        return "" if port == 80 else f":{port}"


def silent_ms(answer_ms: int, stream_ms: int, wait_ms: int) -> int:
    """Return how long a client of a router with those time-outs may be silent."""
    longest_ms = max(answer_ms, stream_ms, wait_ms) + _LATER_MS
    return min(max(longest_ms, LEAST_SILENT_MS), LONGEST_SILENT_MS)


def variables(plan: EdgePlan) -> tuple[str, ...]:
    """Return the names of the variables that hold the descriptors of its addresses, in their order."""
    return tuple(f"{LISTEN}{index}" for index, _ in enumerate(plan.addresses))


def render(plan: EdgePlan, *, confined: bool) -> str:
    """Return the file. ``confined``: HAProxy gives root up and sees nothing but the routers' sockets.

    Raises RouterError for anything that may not stand in it.
    """
    _require(plan)
    numbered = list(zip(variables(plan), plan.addresses, strict=True))
    lines = [f"{_PLAN}{canonical(plan).decode()}", *_global(plan, confined), *_defaults(plan)]
    lines += ["frontend http", *(f'  bind "fd@${{{name}}}" # {where}' for name, where in numbered[: len(plan.http)])]
    said = [*in_front.rules(plan.accept_proxy), *_shared(plan)]
    lines += [*said, *_HOST, *_NONCE, *_ENTRY, *_INSIDE, *_CHALLENGE, *_NOBODYS, _TO_HTTPS.format(port=plan.https_port)]
    lines += [
        *_redirects(plan),
        *headers.rules_of_the_edge(),
        "  http-request set-header X-Forwarded-Proto http",
        _BACKEND,
    ]
    lines += ["frontend https", *(_bind(plan, name, where) for name, where in numbered[len(plan.http) :])]
    lines += [
        *said,
        *_HOST,
        *_SNI,
        *(_NOT_RESUMED if plan.clients else ()),
        *_ENTRY,
        *_INSIDE,
        *_NOT_SECURE,
        *_NOBODYS,
        *_redirects(plan),
        *headers.rules_of_the_edge(),
        *_CLIENT,
    ]
    lines += ["  http-request set-header X-Forwarded-Proto https", _BACKEND]
    lines += [f"backend {_CLIENTS}", "  stick-table type ipv6 size 100k expire 1m store conn_cur"]
    for slot in range(1, plan.slots + 1):
        name = names.backend(slot)
        where = f"unix@/{name}" if confined else f'"unix@${{{ROOT}}}/{name}"'
        lines += [f"backend {name}", f"  server router {where} send-proxy-v2"]
    return "\n".join(lines) + "\n"


def frame(text: str) -> str:
    """Return what of a file HAProxy must be started anew for."""
    return "\n".join(line for line in text.splitlines() if not line.startswith(_PLAN))


def read_plan(text: str) -> EdgePlan:
    """Return the plan that a file was made from. Raises RouterError."""
    try:
        return from_json(EdgePlan, parse(text.partition("\n")[0].removeprefix(_PLAN)))
    except ValueError as error:
        raise RouterError(
            "cannot read the edge's file: its first line is not a plan",
            hint="it is not meant to be edited; put back what it was, or remove it: the next deploy writes it anew",
        ) from error


def _defaults(plan: EdgePlan) -> Sequence[str]:
    return (
        "defaults",
        "  mode http",
        "  timeout connect 2s",
        f"  timeout client {plan.silent_ms}ms",
        f"  timeout server {_STOP_MS}ms",
        "  timeout client-fin 30s",
        "  timeout server-fin 30s",
        f"  timeout tunnel {_STOP_MS}ms",
        "  timeout http-request 10s",
        f"  timeout http-keep-alive {_KEEP_ALIVE_MS}ms",
        "  option clitcpka",
        "  http-reuse never",  # a connection to a router is one client's, who is told at its beginning
        "  option http-restrict-req-hdr-names delete",  # but letters, digits and "-": X_Y may be read as X-Y
        "  option idle-close-on-response",
        "  retries 3",
    )


def _global(plan: EdgePlan, confined: bool) -> Iterator[str]:
    yield from (
        "global",
        f"  maxconn {_MOST}",
        "  nbthread 2",
        "  no strict-limits",
        f"  hard-stop-after {_STOP_MS}ms",
        f'  stats socket "unix@${{{SOCKET}}}" mode 600 level admin expose-fd listeners',
        "  default-path config",
        *headers.room(plan.headers),
        f"  ssl-default-bind-ciphers {_CIPHERS}",
        f"  ssl-default-bind-ciphersuites {_SUITES}",
        "  ssl-default-bind-options ssl-min-ver TLSv1.2 prefer-client-ciphers",
    )
    if plan.clients:
        yield "  tune.ssl.cachesize 0"
    if confined:
        yield from ("  user haproxy", "  group haproxy", f'  chroot "${{{ROOT}}}"')


def _shared(plan: EdgePlan) -> Sequence[str]:
    """Nobody has all connections for himself alone, with nothing but sockets that are silent."""
    others = " !in-front" if plan.accept_proxy else ""
    return (
        f"  tcp-request connection track-sc0 src,ipmask(32,64) table {_CLIENTS}",
        f"  tcp-request connection reject if {{ sc_conn_cur(0) gt {MOST_OF_ONE} }}{others}",
    )


def _bind(plan: EdgePlan, name: str, where: Address) -> str:
    """No certificate is the one for names that have none: strangers would be told the name of the first."""
    sessions = "no-tls-tickets" if plan.clients else f"tls-ticket-keys {TICKETS}"
    return (
        f'  bind "fd@${{{name}}}" ssl crt-list {LIST} strict-sni alpn h2,http/1.1 curves X25519:P-256:P-384'
        f" {sessions} # {where}"
    )


def _redirects(plan: EdgePlan) -> Sequence[str]:
    return (
        _REDIRECT.format(scheme="https", port=plan.https_port),
        _REDIRECT.format(scheme="http", port=plan.http_port),
    )


def _require(plan: EdgePlan) -> None:
    if plan.form > FORM:
        raise RouterError(f"cannot read the edge's file: a newer Instar wrote it (form {plan.form})")
    if not (plan.http and plan.https) or len(set(plan.addresses)) != len(plan.addresses):
        raise RouterError("cannot configure the edge: it needs addresses for http and https, each one once")
    in_front.require(plan.accept_proxy, "the edge")
    if not FEWEST_SLOTS <= plan.slots <= MOST_SLOTS:
        raise RouterError(f"cannot configure the edge: it cannot pass requests to {plan.slots} environments")
    if not (0 < plan.headers.size_bytes <= headers.LARGEST_BYTES and 0 < plan.headers.count <= headers.MOST):
        raise RouterError("cannot configure the edge: no heads can be as large as that")
    if not LEAST_SILENT_MS <= plan.silent_ms <= LONGEST_SILENT_MS:
        raise RouterError(f"cannot configure the edge: no client may be silent for {plan.silent_ms} ms")
