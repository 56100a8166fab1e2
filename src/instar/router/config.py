"""A router's file, haproxy.cfg, as text: pure.

All that is variable in it is checked against what may stand there before it is written: one stray character would be
a second directive. The file is the truth after a restart of HAProxy; it says which server sits in which slot with
which weight, in its ``server`` lines, and the plan that it was made from, in a comment.

A plan has the number of its file's form, and is always written in that one: what an earlier Instar made stays as it
is, and is held against what that one wrote, until HAProxy is started anew for a reason of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from instar.errors import RouterError
from instar.model.codec import canonical, from_json, parse
from instar.model.requests import Requests
from instar.model.roles import FIRST_DOOR
from instar.router import (
    access_log,
    address,
    bodies,
    checking,
    connections,
    headers,
    in_front,
    maintenance,
    previews,
    rates,
    selection,
    served,
    waiting,
)
from instar.router.address import Address
from instar.router.plan import FileDoor, RouterFilePlan, require
from instar.router.slots import BACKEND, FALL, FREE, HEAVIEST, RISE, Server, Slots, backend, letter, seen_from

SOCKET: Final = "INSTAR_SOCKET"  # the holder's environment names HAProxy's socket and the listening descriptors
LISTEN: Final = "INSTAR_LISTEN_"
FOLDER: Final = "INSTAR_FOLDER"  # the directory of the file
DOOR: Final = "INSTAR_DOOR"  # the descriptor where the edge asks
DOOR_ROOT: Final = "INSTAR_DOOR_ROOT"  # the directory of that socket, which is all that HAProxy sees
KEEP_ALIVE_MS: Final = 60_000
SENT_AHEAD_BYTES: Final = 128 * 1024  # more of it than a service reads would look as if it read nothing
CLIENT_MS: Final = 60_000  # a client may be silent so long, however soon a service has to answer
CHECK_INTERVAL_MS: Final = 200  # a new server waits so long for its first check, whatever fastinter says

_PLAN = "# plan "
_SERVER = re.compile(
    r"  server s(?P<slot>\d{1,9}) (?P<address>\S+) weight (?P<weight>\d{1,9})(?P<free> disabled)?"
    r"(?: # (?P<name>\S+)(?: (?P<door>[a-z0-9.-]+)=(?P<at>\S+:\d{1,5}) weight (?P<share>\d{1,9}))?"
    r"(?P<ports>(?: [a-z0-9.-]+=\d{1,5})*))?",
    re.ASCII,
)
_SERVER_OF_DOOR = re.compile(r"  server d(?P<slot>\d{1,9}) \S+ weight \d{1,9}(?: disabled| # \S+)", re.ASCII)
_OF_DOOR: Final = f"backend {BACKEND}:"


def render(plan: RouterFilePlan, slots: Slots, *, confined: bool) -> str:
    """Return the file. ``confined``: HAProxy gives root up and sees an empty root directory (Debian's user for it).

    Raises RouterError for anything that may not stand in it.
    """
    require(plan)
    bound = dict(zip(plan.addresses, variables(plan), strict=False))
    sections = (
        f"{_PLAN}{canonical(plan).decode()}",
        _global(plan, confined),
        *(line for door in plan.doors for line in _door(plan, door, bound, slots)),
        _defaults(plan),
        _frontends(plan, bound),
        *_shared(plan),
        _backend(plan),
        *(_server(index, server) for index, server in enumerate(slots)),
    )
    return "\n".join(sections) + "\n"


def refilled(text: str, slots: Slots) -> str:
    """Return a file with other servers in its slots: all else in it stays what HAProxy was started with."""
    kept = list[str]()
    door: Slots = ()
    for line in text.splitlines():
        if line.startswith(_OF_DOOR):
            door = seen_from(line.removeprefix(_OF_DOOR), slots)
        match = _SERVER_OF_DOOR.fullmatch(line)
        if match and int(match["slot"]) <= len(door):
            line = _server_of_door(int(match["slot"]) - 1, door[int(match["slot"]) - 1])  # noqa: PLW2901
        if not _SERVER.fullmatch(line):
            kept.append(line)
    return "\n".join([*kept, *(_server(index, server) for index, server in enumerate(slots))]) + "\n"


def frame(text: str) -> str:
    """Return what of a file HAProxy must be started anew for: all but comments and what its slots hold."""
    lines = (_SERVER.sub(r"  server s\g<slot>", line) for line in text.splitlines())
    lines = (_SERVER_OF_DOOR.sub(r"  server d\g<slot>", line) for line in lines)
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
    others = (previews.SERVER, waiting.SERVER)
    slots = [line for line in lines if not line.startswith(others) and not _SERVER_OF_DOOR.fullmatch(line)]
    found = [_SERVER.fullmatch(line) for line in slots]
    if not all(match and _is_whole(match) and int(match["slot"]) == count for count, match in enumerate(found, 1)):
        raise _damaged("its server lines are not as Instar wrote them")
    return tuple(_held(match) for match in found if match)


def variables(plan: RouterFilePlan) -> tuple[str, ...]:
    """Return the names of the environment variables that hold the descriptors of its addresses, in their order, and
    of its door."""
    doors = (DOOR,) if plan.door else ()
    return (*(f"{LISTEN}{index}" for index, _ in enumerate(plan.addresses)), *doors)


def scripts(plan: RouterFilePlan) -> Mapping[str, str]:
    """Return what HAProxy reads besides when it starts: the names of files beside its own, and what is in them."""
    by_door = plan.alike and any(door.wait_ms for door in plan.doors)
    waits = {waiting.SCRIPT: waiting.text(by_door=by_door)} if plan.wait_ms or by_door else {}
    return {**waits, **({bodies.SCRIPT: bodies.TEXT} if bodies.counted(plan.requests) else {})}


def _is_whole(match: re.Match[str]) -> bool:
    """Tell whether a line is that of a free slot, of one of the first door, or of one of another's alone."""
    if match["name"] is None:
        return match["free"] is not None
    return (match["free"] is None) == (match["door"] is None)


def _held(match: re.Match[str]) -> Server | None:
    if match["name"] is None:
        return None
    found = address.parse(match["at"] or match["address"])
    ports = dict(one.split("=") for one in match["ports"].split())
    return Server(
        name=match["name"],
        address=found,
        weight=int(match["share"] or match["weight"]),
        door=match["door"] or FIRST_DOOR,
        ports={key: int(port) for key, port in ports.items()},
    )


def _damaged(why: str) -> RouterError:
    return RouterError(
        f"cannot read the router's file: {why}",
        hint="it is not meant to be edited; put back what it was, or remove it: the next deploy writes it anew",
    )


def _global(plan: RouterFilePlan, confined: bool) -> str:
    """Old processes, after a reload, live as long as what they serve: until their longest time-out has passed."""
    each = (plan, *(plan.of_door(door) for door in plan.doors if plan.alike))
    longest_ms = max(max(_answer_ms(one), one.tunnel_timeout_ms, KEEP_ALIVE_MS, one.wait_ms) for one in each)
    lines = [
        "global",
        "  maxconn 8192",
        f"  nbthread {bodies.threads(plan.form, plan.requests)}",
        "  no strict-limits",
        f"  hard-stop-after {longest_ms}ms",
        f'  stats socket "unix@${{{SOCKET}}}" mode 600 level admin expose-fd listeners',
    ]
    if plan.form > 1:
        lines += headers.room(plan.headers) if plan.reads else ()
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


def _door(plan: RouterFilePlan, door: FileDoor, bound: Mapping[Address, str], slots: Slots) -> Iterator[str]:
    """Yield the sections of a further door; what it has in common with the first is in the sections of that."""
    own, key = plan.of_door(door), door.key
    yield _defaults(own)
    yield _frontends(own, bound, key, maintained=plan.maintained)
    yield from _previewed(own, key, alone=False)
    yield from _again(own, key, by_the_edge=plan.door)
    yield _backend(own, key)
    yield from (_server_of_door(index, server) for index, server in enumerate(seen_from(key, slots)))


def _frontends(
    plan: RouterFilePlan, bound: Mapping[Address, str], key: str = FIRST_DOOR, *, maintained: bool = True
) -> str:
    """``bound``: the variables of the addresses."""
    asked = plan.requests if plan.http else Requests()
    limits = [*rates.rules(asked.rate), *bodies.rules(plan.form, asked, grpc=plan.protocol == "h2")]
    sent = headers.rules(plan.form, proxied=bool(plan.accept_proxy)) if plan.http else ()
    limits = [*access_log.rules(plan.access_log and plan.http), *limits]
    rules = [*in_front.rules(plan.accept_proxy), *limits, *sent]
    own, chosen = f":{key}" if key else "", _selection({key: plan}, key, maintained=maintained and plan.maintained)
    lines: list[str] = []
    if plan.public:
        lines += [f"frontend public{own}", *_binds(plan.public, bound), *rules, *chosen]
    if plan.inside:
        said = headers.rules(plan.form, proxied=False) if plan.http else ()
        lines += [f"frontend inside{own}", *_binds(plan.for_instances, bound), *limits, *said, *chosen]
    if plan.door:
        lines += ["frontend door", *_DOOR, *limits, *_by_name(plan, chosen, maintained=plan.maintained)]
    if plan.preview_address:
        lines += previews.frontend(bound[plan.preview_address], plan.preview_address, rules)
    return "\n".join(lines)


def _binds(addresses: Iterable[Address], bound: Mapping[Address, str]) -> list[str]:
    return [f'  bind "fd@${{{bound[where]}}}" # {where}' for where in addresses]


def _by_name(plan: RouterFilePlan, chosen: Sequence[str], *, maintained: bool) -> Sequence[str]:
    """Return where the requests go that come by name. ``chosen``: where, if all do as those of the first door."""
    sites = dict.fromkeys(plan.sites, backend(FIRST_DOOR))
    sites |= {site: backend(door.key) for door in plan.doors for site in door.sites}
    marks = selection.marks(sites, backend(FIRST_DOOR))
    if not plan.alike or not marks:
        return (*chosen[:-1], *selection.rules(sites, backend(FIRST_DOOR)), chosen[-1])
    others = {door.key: plan.of_door(door) for door in plan.doors if door.sites}
    return (*marks, *_selection({FIRST_DOOR: plan, **others}, FIRST_DOOR, maintained=maintained))


def _selection(doors: Mapping[str, RouterFilePlan], default: str, *, maintained: bool) -> list[str]:
    """Return where a frontend's requests go, and which of them wait before. ``doors``: those that they may be for, by
    key, each plan with it as the first; of several it was noted which one it is."""
    only = {key: [selection.chosen(backend(key))] if len(doors) > 1 else [] for key in doors}
    paths = [plan.health_path for plan in doors.values()]
    lines = [*dict.fromkeys(line for path in paths for line in maintenance.conditions(path))] if maintained else []
    for key, plan in doors.items():
        asked = plan.preview if plan.http else None
        held = ["!{ req.fhdr(X-Instar-Release) -m found }"] if asked == previews.HEADER else []
        held += [maintenance.HELD] if maintained else []
        lines += waiting.hold(connections.mode(plan.protocol), plan.wait_ms, door=key, only=[*held, *only[key]])
    lines += access_log.silence(any(plan.access_log and plan.http and plan.wait_ms for plan in doors.values()))
    asked_by = {key: plan.preview if plan.http else None for key, plan in doors.items()}
    lines += [line for key, asked in asked_by.items() for line in previews.selection(asked, key, only=only[key])]
    lines += [maintenance.SELECTION] if maintained else []
    lines += [line for key, plan in doors.items() for line in waiting.selection(plan.wait_ms, key, only=only[key])]
    lines += [f"  use_backend {backend(key)} if {only[key][0]}" for key in doors if key != default]
    return [*lines, f"  default_backend {backend(default)}"]


# The edge alone can reach it, and closes what is idle first: a request is never sent on what is closed meanwhile.
_DOOR: Final = (f'  bind "fd@${{{DOOR}}}" accept-proxy', f"  timeout http-keep-alive {10 * KEEP_ALIVE_MS}ms")


def _shared(plan: RouterFilePlan) -> Iterator[str]:
    """Yield the backends besides those of the doors."""
    alone = not any(plan.previews_by(door) for door in plan.doors)
    yield from _previewed(plan, FIRST_DOOR, alone=alone)
    yield from rates.backend(plan.requests.rate)
    yield from maintenance.backend() if plan.maintained else ()
    yield from _again(plan, FIRST_DOOR, by_the_edge=True)


def _previewed(plan: RouterFilePlan, key: str, *, alone: bool) -> Sequence[str]:
    rules, words = connections.elsewhere(plan.protocol, plan.keep_alive_ms)
    asked = plan.preview if plan.http else None
    return previews.backend(asked, [*rules, *_answers(plan)], words, key, alone=alone) if asked else ()


def _again(plan: RouterFilePlan, key: str, *, by_the_edge: bool) -> Sequence[str]:
    """Return the backend of what has waited in a retired HAProxy: to the same door once more, in the one in force."""
    first, answer_ms = (*plan.public, *plan.for_instances, None)[0], plan.wait_ms + _answer_ms(plan)
    if not plan.wait_ms or not (first or by_the_edge):
        return ()
    if first is None:
        return waiting.by_the_edge(answer_ms, key)
    return waiting.backend(first, answer_ms, plan.accept_proxy, key)


def _backend(plan: RouterFilePlan, key: str = FIRST_DOOR) -> str:
    """The backend of a door; the ``server`` lines of its slots follow."""
    lines = [f"backend {backend(key)}", "  balance roundrobin", *([served.TABLE] if served.is_counted(key) else ())]
    if plan.http:
        counts = served.RULES if served.is_counted(key) else ()
        lines += [*counts, *connections.reuse(plan.protocol, plan.keep_alive_ms), *_answers(plan)]
    lines += checking.rules(plan.form, plan.health_path, plan.health_host)
    spoken = connections.server(plan.protocol, plan.keep_alive_ms)
    lines.append(f"  default-server check inter {CHECK_INTERVAL_MS}ms fall {FALL} rise {RISE}{spoken}")
    return "\n".join(lines)


def _answers(plan: RouterFilePlan) -> Sequence[str]:
    """Return the rules of a backend about what comes back."""
    types = plan.compression.types if plan.compression and plan.http else ()
    said = headers.answers(plan.form) if plan.http else ()
    return [*connections.streams(plan.stream_timeout_ms), *connections.compression(types), *said]


def _server_of_door(index: int, server: Server | None) -> str:
    if server is None:
        return f"  server {letter('.')}{index + 1} {FREE} weight 0 disabled"
    return f"  server {letter('.')}{index + 1} {_checked(server).address} weight {server.weight} # {server.name}"


def _server(index: int, server: Server | None) -> str:
    """Return the line of the first door, which says all of a server; of one that has no part in it only in words."""
    if server is None:
        return f"  server s{index + 1} {FREE} weight 0 disabled"
    checked = _checked(server)
    ports = "".join(f" {key}={port}" for key, port in sorted(checked.ports.items()))
    if checked.door == FIRST_DOOR:
        return f"  server s{index + 1} {checked.address} weight {server.weight} # {checked.name}{ports}"
    own = f"{checked.door}={checked.address} weight {server.weight}"
    return f"  server s{index + 1} {FREE} weight 0 disabled # {checked.name} {own}{ports}"


def _checked(server: Server) -> Server:
    """Raises RouterError for what may not stand in the file."""
    if not 0 <= server.weight <= HEAVIEST:
        raise RouterError(f"cannot route to '{server.name}': no weight can be {server.weight}")
    address = server.address
    return Server.of(server.name, address.host, address.port, door=server.door, ports=server.ports)
