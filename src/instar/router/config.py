"""A router's file, haproxy.cfg, as text: pure.

All that is variable in it is checked against what may stand there before it is written: one stray character would be
a second directive. The file is the truth after a restart of HAProxy; it says which server sits in which slot with
which weight, in its ``server`` lines, and the plan that it was made from, in a comment.

A plan has the number of its file's form, and is always written in that one: what an earlier Instar made stays as it
is, and is held against what that one wrote, until HAProxy is started anew for a reason of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Final, get_args

from instar.errors import RouterError
from instar.frozen import dataclass
from instar.model.codec import ADDED, canonical, from_json, parse
from instar.model.definition import Headers
from instar.model.requests import Compression, Requests
from instar.router import (
    address,
    bodies,
    checking,
    connections,
    headers,
    in_front,
    maintenance,
    previews,
    rates,
    served,
    waiting,
)
from instar.router.address import Address
from instar.router.slots import BACKEND, FALL, FREE, HEAVIEST, RISE, Server, Slots

SOCKET: Final = "INSTAR_SOCKET"  # the holder's environment names HAProxy's socket and the listening descriptors
LISTEN: Final = "INSTAR_LISTEN_"
FOLDER: Final = "INSTAR_FOLDER"  # the directory of the file
DOOR: Final = "INSTAR_DOOR"  # the descriptor where the edge asks
DOOR_ROOT: Final = "INSTAR_DOOR_ROOT"  # the directory of that socket, which is all that HAProxy sees
FEWEST_SLOTS, SLOTS_PER_INSTANCE = 16, 6
LONGEST_MS: Final = 2**31 - 1  # Source: HAProxy 2.6 configuration manual, 2.5 "Time format"
KEEP_ALIVE_MS: Final = 60_000
SENT_AHEAD_BYTES: Final = 128 * 1024  # more of it than a service reads would look as if it read nothing
CLIENT_MS: Final = 60_000  # a client may be silent so long, however soon a service has to answer
FORM: Final = 6  # of the files that are written now; 1 is that of the first Instar
WITH_MAINTENANCE: Final = 4  # and those after it
CHECK_INTERVAL_MS: Final = 200  # a new server waits so long for its first check, whatever fastinter says

_PLAN = "# plan "
_SERVER = re.compile(
    r"  server s(?P<slot>\d{1,9}) (?P<address>\S+) weight (?P<weight>\d{1,9})(?: disabled| # (?P<name>\S+))", re.ASCII
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RouterFilePlan:
    """All about a router besides its servers. ``health_path`` None: its own check is a TCP connection.

    ``also`` are addresses that it listens on from before, each part of one of ``listen`` ("every address"): closing a
    socket would lose who has connected to it and waits. ``preview`` is where requests for one release are told apart:
    at an address of their own, by a "header", or (None) nowhere. ``door``: the machine's edge asks too. ``inside``:
    where it listens for instances that find it by name; no server in front comes there.
    """

    listen: tuple[str, ...]
    protocol: connections.Protocol
    request_timeout_ms: int
    tunnel_timeout_ms: int
    health_path: str | None
    instances: int
    also: tuple[str, ...] = ()
    preview: str | None = None
    health_host: str = field(default="localhost", metadata=ADDED)
    headers: Headers = field(default=Headers(), metadata=ADDED)
    wait_ms: int = field(default=0, metadata=ADDED)
    accept_proxy: tuple[str, ...] = field(default=(), metadata=ADDED)
    keep_alive_ms: int = field(default=0, metadata=ADDED)
    form: int = field(default=1, metadata=ADDED)
    door: bool = field(default=False, metadata=ADDED)
    requests: Requests = field(default=Requests(), metadata=ADDED)
    compression: Compression | None = field(default=None, metadata=ADDED)
    stream_timeout_ms: int = field(default=0, metadata=ADDED)
    inside: tuple[str, ...] = field(default=(), metadata=ADDED)

    @property
    def http(self) -> bool:
        return self.protocol != "tcp"

    @property
    def maintained(self) -> bool:
        """Its file has maintenance."""
        return self.http and self.form >= WITH_MAINTENANCE

    @property
    def slots(self) -> int:
        """How many servers there must be room for: those of several releases at a time."""
        return max(FEWEST_SLOTS, SLOTS_PER_INSTANCE * self.instances)

    @property
    def public(self) -> tuple[Address, ...]:
        return tuple(address.parse(text) for text in (*self.listen, *self.also))

    @property
    def for_instances(self) -> tuple[Address, ...]:
        return tuple(map(address.parse, self.inside))

    @property
    def preview_address(self) -> Address | None:
        return None if self.preview in (None, previews.HEADER) else address.parse(self.preview)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """All that it listens on, that of the preview last."""
        return (*self.public, *self.for_instances, *((self.preview_address,) if self.preview_address else ()))

    def after(self, before: RouterFilePlan) -> RouterFilePlan:
        """Return this plan as it follows ``before`` while that one's router runs."""
        new = self.addresses
        kept = [old for old in before.public if old not in new and any(wide.covers(old) for wide in self.public)]
        return replace(self, also=tuple(map(str, kept)))


def render(plan: RouterFilePlan, slots: Slots, *, confined: bool) -> str:
    """Return the file. ``confined``: HAProxy gives root up and sees an empty root directory (Debian's user for it).

    Raises RouterError for anything that may not stand in it.
    """
    _require(plan)
    sections = (
        f"{_PLAN}{canonical(plan).decode()}",
        _global(plan, confined),
        _defaults(plan),
        _frontends(plan),
        _backends(plan),
        *(_server(index, server) for index, server in enumerate(slots)),
    )
    return "\n".join(sections) + "\n"


def refilled(text: str, slots: Slots) -> str:
    """Return a file with other servers in its slots: all else in it stays what HAProxy was started with."""
    kept = [line for line in text.splitlines() if not _SERVER.fullmatch(line)]
    return "\n".join([*kept, *(_server(index, server) for index, server in enumerate(slots))]) + "\n"


def frame(text: str) -> str:
    """Return what of a file HAProxy must be started anew for: all but comments and what its slots hold."""
    lines = (_SERVER.sub(r"  server s\g<slot>", line) for line in text.splitlines())
    return "\n".join(line for line in lines if not line.startswith(_PLAN))


def read_plan(text: str) -> RouterFilePlan:
    """Return the plan that a file was made from. Raises RouterError."""
    line = text.partition("\n")[0]
    try:
        return from_json(RouterFilePlan, parse(line.removeprefix(_PLAN)))
    except ValueError as error:
        raise _damaged("its first line is not a plan") from error


def read_slots(text: str) -> Slots:
    """Return what a file's slots hold. Raises RouterError."""
    lines = [line for line in text.splitlines() if line.lstrip().startswith("server ")]
    slots = [line for line in lines if not line.startswith((previews.SERVER, waiting.SERVER))]
    found = [_SERVER.fullmatch(line) for line in slots]
    if not all(match and int(match["slot"]) == count for count, match in enumerate(found, 1)):
        raise _damaged("its server lines are not as Instar wrote them")
    return tuple(_held(match) for match in found if match)


def variables(plan: RouterFilePlan) -> tuple[str, ...]:
    """Return the names of the environment variables that hold the descriptors of its addresses, in their order, and
    of its door."""
    doors = (DOOR,) if plan.door else ()
    return (*(f"{LISTEN}{index}" for index, _ in enumerate(plan.addresses)), *doors)


def scripts(plan: RouterFilePlan) -> Mapping[str, str]:
    """Return what HAProxy reads besides when it starts: the names of files beside its own, and what is in them."""
    waits = {waiting.SCRIPT: waiting.TEXT} if plan.wait_ms else {}
    return {**waits, **({bodies.SCRIPT: bodies.TEXT} if bodies.counted(plan.requests) else {})}


def _held(match: re.Match[str]) -> Server | None:
    if match["name"] is None:
        return None
    found = address.parse(match["address"])
    return Server(name=match["name"], address=found, weight=int(match["weight"]))


def _damaged(why: str) -> RouterError:
    return RouterError(
        f"cannot read the router's file: {why}",
        hint="it is not meant to be edited; put back what it was, or remove it: the next deploy writes it anew",
    )


def _require(plan: RouterFilePlan) -> None:
    if not (plan.listen or plan.door or plan.inside) or len(set(plan.addresses)) != len(plan.addresses):
        raise RouterError("cannot configure a router: it needs addresses to listen on, each one once")
    preview = plan.preview_address
    if preview and any(preview.overlaps(one) for one in plan.public):
        raise RouterError(f"cannot configure a router: '{preview}' cannot be both its own address and its preview's")
    if plan.form not in range(1, FORM + 1):
        raise RouterError(f"cannot read the router's file: a newer Instar wrote it (form {plan.form})")
    _require_check(plan)
    _require_numbers(plan)
    _require_requests(plan)
    if plan.preview and not plan.http:
        raise RouterError("cannot configure a router: there is no preview of a service that does not speak http")
    if plan.protocol not in get_args(connections.Protocol):
        raise RouterError(f"cannot configure a router: it speaks http, h2 or tcp, not {plan.protocol!r}")
    in_front.require(plan.accept_proxy, "a router")


def _require_check(plan: RouterFilePlan) -> None:
    if plan.health_path is not None and not checking.PATH.fullmatch(plan.health_path):
        raise RouterError(
            f"cannot configure a router: {plan.health_path!r} is no path for its health check",
            hint="letters, digits and /._~!*()@:&;=+,%?- can stand in it; write others as %XX",
        )
    if not checking.HOST.fullmatch(plan.health_host):
        raise RouterError(f"cannot configure a router: {plan.health_host!r} is no host for its health check")


def _require_numbers(plan: RouterFilePlan) -> None:
    for timeout_ms in (plan.request_timeout_ms, plan.tunnel_timeout_ms):
        if not 0 < timeout_ms <= LONGEST_MS:
            raise RouterError(f"cannot configure a router: no time-out can be {timeout_ms} ms")
    if not 0 <= plan.wait_ms <= LONGEST_MS - plan.request_timeout_ms - 1_000:
        raise RouterError(f"cannot configure a router: no request can wait {plan.wait_ms} ms")
    if plan.keep_alive_ms and not 1_000 <= plan.keep_alive_ms <= LONGEST_MS:
        raise RouterError(f"cannot configure a router: no connection is kept open for {plan.keep_alive_ms} ms")
    if not (0 < plan.headers.size_bytes <= headers.LARGEST_BYTES and 0 < plan.headers.count <= headers.MOST):
        raise RouterError(
            f"cannot configure a router: headers cannot have {plan.headers.size_bytes} bytes and {plan.headers.count}"
            " lines"
        )


def _require_requests(plan: RouterFilePlan) -> None:
    asked = plan.requests
    if not plan.http and (asked != Requests() or plan.compression or plan.stream_timeout_ms):
        raise RouterError("cannot configure a router: it does not read what is not of http")
    if asked.largest_body_bytes is not None and not 0 < asked.largest_body_bytes <= bodies.LARGEST_BYTES:
        raise RouterError(f"cannot configure a router: no body can have {asked.largest_body_bytes} bytes at the most")
    if asked.body_within_ms is not None and not 0 < asked.body_within_ms <= LONGEST_MS:
        raise RouterError(f"cannot configure a router: no body can take {asked.body_within_ms} ms at the most")
    if asked.rate and not (0 < asked.rate.requests <= rates.MOST and 0 < asked.rate.within_ms <= rates.LONGEST_MS):
        rate = f"{asked.rate.requests} requests in {asked.rate.within_ms} ms"
        raise RouterError(f"cannot configure a router: clients cannot be held to {rate}")
    if not 0 <= plan.stream_timeout_ms <= LONGEST_MS - plan.wait_ms:
        raise RouterError(f"cannot configure a router: no time-out can be {plan.stream_timeout_ms} ms")
    types = plan.compression.types if plan.compression else ()
    if not all(connections.MEDIA_TYPE.fullmatch(one) for one in types):
        raise RouterError(f"cannot configure a router: {types!r} are no types of answers")


def _global(plan: RouterFilePlan, confined: bool) -> str:
    """Old processes, after a reload, live as long as what they serve: until their longest time-out has passed."""
    longest_ms = max(_answer_ms(plan), plan.tunnel_timeout_ms, KEEP_ALIVE_MS, plan.wait_ms)
    lines = [
        "global",
        "  maxconn 8192",
        f"  nbthread {bodies.threads(plan.form, plan.requests)}",
        "  no strict-limits",
        f"  hard-stop-after {longest_ms}ms",
        f'  stats socket "unix@${{{SOCKET}}}" mode 600 level admin expose-fd listeners',
    ]
    if plan.form > 1:
        lines += headers.room(plan.headers) if plan.http else ()
        lines.append(f"  tune.sndbuf.server {SENT_AHEAD_BYTES}")
    if plan.preview or plan.maintained or scripts(plan):
        lines.append("  default-path config")  # where the maps, the scripts and the page are
    lines += _loaded(plan)
    if confined:
        root = f'"${{{DOOR_ROOT}}}"' if plan.door else "/var/lib/haproxy"
        lines += ["  user haproxy", "  group haproxy", f"  chroot {root}"]
    return "\n".join(lines)


def _loaded(plan: RouterFilePlan) -> list[str]:
    """Return what loads the scripts: into one Lua of all threads, or where bodies are counted into one for each, which
    no thread but the first finds by ``default-path``. HAProxy 2.6 calls what is of one Lua in any other that a request
    has begun with, so all of them are in the same."""
    if plan.form >= bodies.WITH_A_LUA_EACH and bodies.counted(plan.requests):
        return [f'  lua-load-per-thread "${{{FOLDER}}}/{name}"' for name in scripts(plan)]
    return [f"  lua-load {name}" for name in scripts(plan)]


def _answer_ms(plan: RouterFilePlan) -> int:
    """Return how long whoever answers or asks may be silent, at the most."""
    return max(plan.request_timeout_ms, plan.stream_timeout_ms)


def _defaults(plan: RouterFilePlan) -> str:
    """A request that was sent is never sent again, as only its connection is tried again."""
    request_ms = plan.request_timeout_ms
    client_ms = request_ms if plan.form == 1 else max(_answer_ms(plan), CLIENT_MS, plan.wait_ms)
    lines = [
        "defaults",
        f"  mode {connections.mode(plan.protocol)}",
        "  timeout connect 2s",
        f"  timeout client {client_ms}ms",
        f"  timeout server {request_ms}ms",
        f"  timeout client-fin {request_ms}ms",
        f"  timeout server-fin {request_ms}ms",
        f"  timeout tunnel {plan.tunnel_timeout_ms}ms",
        "  timeout check 2s",
        "  retries 3",
        "  option redispatch 1",
    ]
    if plan.http:
        lines += [
            "  timeout http-request 10s",
            f"  timeout http-keep-alive {KEEP_ALIVE_MS}ms",
            connections.option(plan.keep_alive_ms),
            "  option idle-close-on-response",
            *([headers.refusal(plan.headers)] if plan.form > 1 else ()),
        ]
    return "\n".join(lines)


def _frontends(plan: RouterFilePlan) -> str:
    names = variables(plan)
    limits = [*rates.rules(plan.requests.rate), *bodies.rules(plan.form, plan.requests, grpc=plan.protocol == "h2")]
    sent = headers.rules(plan.form, proxied=bool(plan.accept_proxy)) if plan.http else ()
    rules = [*in_front.rules(plan.accept_proxy), *limits, *sent]
    lines: list[str] = []
    if plan.public:
        binds = [f'  bind "fd@${{{name}}}" # {where}' for name, where in zip(names, plan.public, strict=False)]
        lines += ["frontend public", *binds, *rules, *_selection(plan)]
    if plan.inside:
        own = names[len(plan.public) :]
        binds = [f'  bind "fd@${{{name}}}" # {where}' for name, where in zip(own, plan.for_instances, strict=False)]
        said = headers.rules(plan.form, proxied=False) if plan.http else ()
        lines += ["frontend inside", *binds, *limits, *said, *_selection(plan)]
    if plan.door:
        lines += ["frontend door", *_DOOR, *limits, *_selection(plan)]
    if plan.preview_address:
        lines += previews.frontend(names[len(plan.addresses) - 1], plan.preview_address, rules)
    return "\n".join(lines)


def _selection(plan: RouterFilePlan) -> list[str]:
    """Return where a frontend's requests go, and which of them wait before."""
    only = ["!{ req.fhdr(X-Instar-Release) -m found }"] if plan.preview == previews.HEADER else []
    only += [maintenance.HELD] if plan.maintained else []
    return [
        *(maintenance.conditions(plan.health_path) if plan.maintained else ()),
        *waiting.hold(connections.mode(plan.protocol), plan.wait_ms, only=only),
        *previews.selection(plan.preview),
        *([maintenance.SELECTION] if plan.maintained else ()),
        *waiting.selection(plan.wait_ms),
        f"  default_backend {BACKEND}",
    ]


# The edge alone can reach it, and closes what is idle first: a request is never sent on what is closed meanwhile.
_DOOR: Final = (f'  bind "fd@${{{DOOR}}}" accept-proxy', f"  timeout http-keep-alive {10 * KEEP_ALIVE_MS}ms")


def _backends(plan: RouterFilePlan) -> str:
    """The last is that of the slots, whose ``server`` lines follow."""
    rules, words = connections.elsewhere(plan.protocol, plan.keep_alive_ms)
    types = plan.compression.types if plan.compression else ()
    said = headers.answers(plan.form) if plan.http else ()
    more = [*connections.streams(plan.stream_timeout_ms), *connections.compression(types), *said]
    lines = [*previews.backend(plan.preview, [*rules, *more], words)] if plan.preview else []
    lines += rates.backend(plan.requests.rate)
    lines += maintenance.backend() if plan.maintained else ()
    if plan.wait_ms:
        first, answer_ms = (*plan.public, *plan.for_instances, None)[0], plan.wait_ms + _answer_ms(plan)
        again = waiting.backend(first, answer_ms, plan.accept_proxy) if first else waiting.by_the_edge(answer_ms)
        lines += again
    lines += [f"backend {BACKEND}", "  balance roundrobin", served.TABLE]
    if plan.http:
        lines += [*served.RULES, *connections.reuse(plan.protocol, plan.keep_alive_ms), *more]
    lines += checking.rules(plan.form, plan.health_path, plan.health_host)
    spoken = connections.server(plan.protocol, plan.keep_alive_ms)
    lines.append(f"  default-server check inter {CHECK_INTERVAL_MS}ms fall {FALL} rise {RISE}{spoken}")
    return "\n".join(lines)


def _server(index: int, server: Server | None) -> str:
    if server is None:
        return f"  server s{index + 1} {FREE} weight 0 disabled"
    checked = Server.of(server.name, server.address.host, server.address.port)
    if not 0 <= server.weight <= HEAVIEST:
        raise RouterError(f"cannot route to '{server.name}': no weight can be {server.weight}")
    return f"  server s{index + 1} {checked.address} weight {server.weight} # {checked.name}"
