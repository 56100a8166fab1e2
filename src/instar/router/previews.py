"""Which release's requests go to which server whatever its weight: pure.

They are in a map of HAProxy's, release number → where its server is, by another door than the first NUMBER@DOOR, which
is changed while HAProxy runs and read from ``preview.map`` when it starts. The servers' slots have no part in it: a
request for a release goes through a backend of its door's own, so that it counts as nobody's traffic.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from instar.errors import RouterError
from instar.model.roles import FIRST_DOOR
from instar.router.address import Address
from instar.router.slots import Server, Slots, find, held

HEADER: Final = "header"
MAP: Final = "preview.map"
SHOW: Final = f"show map {MAP}"

SERVER: Final = "  server target 0.0.0.0:0"  # wherever the request was told to go

_BACKEND: Final = "previewed"
_ASKED: Final = "req.fhdr(X-Instar-Release)"
_OF_DOOR: Final = "@"  # parts a release's number from a door
_NEWEST: Final = "newest"  # the key of requests to the preview address: the highest number's
_LINE = re.compile(r"(?:0x[0-9a-f]+ )?(?P<key>\S+) (?P<host>[0-9a-f.:]+)/(?P<port>\d{1,5})", re.ASCII)
_RELEASE = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)

Previews = Mapping[int, Mapping[str, Address]]  # release → by which door → where


def chosen(slots: Slots, names: Mapping[int, Sequence[str]], doors: Sequence[str] = ()) -> Previews:
    """Return where the servers of those ``names`` are that ``slots`` hold, by the first door and by ``doors``: of each
    release one of each role."""
    found: dict[int, Mapping[str, Address]] = {}
    for number, each in sorted(names.items()):
        if not _RELEASE.fullmatch(str(number)):
            raise RouterError(f"cannot preview {number!r}: it is no release's number")
        indices = [find(slots, name) for name in each]
        servers = [slots[index] for index in indices if index is not None]
        by_door = dict(one for server in servers if server is not None for one in _addresses(server, doors))
        found |= {number: by_door} if by_door else {}
    return found


def _addresses(server: Server, doors: Sequence[str]) -> Iterator[tuple[str, Address]]:
    for door in (FIRST_DOOR, *doors):
        address = server.at(door)
        if address is not None:
            yield door, address


def kept(slots: Slots, previews: Previews, doors: Sequence[str] = ()) -> Previews:
    """Return those of ``previews`` whose servers ``slots`` still hold, by the first door and by ``doors``."""
    return chosen(slots, named(slots, previews), doors)


def named(slots: Slots, previews: Previews) -> Mapping[int, tuple[str, ...]]:
    """Return which servers it is, of each release, in the order of their names."""
    found: dict[int, tuple[str, ...]] = {}
    for number, by_door in sorted(previews.items()):
        every = (server for _, server in held(slots))
        there = [one.name for one in every if any(one.at(door) == at for door, at in by_door.items())]
        found |= {number: tuple(sorted(there))} if there else {}
    return found


def told(slots: Slots, previews: Previews) -> tuple[Mapping[int, str], Mapping[int, tuple[str, ...]]]:
    """Return the servers of the first door, by release, and those of other roles."""
    first = {server.name for _, server in held(slots) if server.door == FIRST_DOOR}
    names = named(slots, previews)
    own = {number: one for number, each in names.items() for one in each if one in first}
    beside = {number: tuple(one for one in each if one not in first) for number, each in names.items()}
    return own, {number: each for number, each in beside.items() if each}


def render(kind: str, previews: Previews) -> str:
    """Return the file. ``kind``: "header", or the address where the highest number's server is reached."""
    return "".join(f"{key} {value}\n" for key, value in _entries(kind, previews).items())


def read(text: str) -> Previews:
    """Read the file, or what HAProxy showed of its map."""
    found: dict[int, dict[str, Address]] = {}
    for match in filter(None, map(_LINE.fullmatch, text.splitlines())):
        number, _, door = match["key"].partition(_OF_DOOR)
        if _RELEASE.fullmatch(number):
            found.setdefault(int(number), {})[door] = Address.of(match["host"], int(match["port"]))
    return found


def commands(kind: str, wanted: Previews, shown: str) -> Sequence[str]:
    """Return what makes HAProxy's map as ``wanted``, after what it showed of it; nothing when it is.

    An HAProxy that has no map was started before there were previews: the one after it reads the file.
    """
    if shown.startswith("Unknown map"):
        return ()
    entries = _entries(kind, wanted)
    seen = dict(line.split(" ")[1:3] for line in shown.strip().splitlines())
    gone = [f"del map {MAP} {key}" for key in seen if key not in entries]
    new = [f"add map {MAP} {key} {value}" for key, value in entries.items() if key not in seen]
    moved = [f"set map {MAP} {key} {value}" for key, value in entries.items() if seen.get(key, value) != value]
    return (*gone, *moved, *new)


def selection(kind: str | None, door: str = FIRST_DOOR, *, only: Sequence[str] = ()) -> Sequence[str]:
    """Return what a public frontend needs: without a preview by header, the header means nothing. ``only``: conditions
    of what comes by ``door``."""
    return [" ".join([f"  use_backend {_name(door)} if {{ {_ASKED} -m found }}", *only])] if kind == HEADER else []


def frontend(variable: str, address: Address, rules: Sequence[str]) -> Sequence[str]:
    return ["frontend preview", f'  bind "fd@${{{variable}}}" # {address}', *rules, f"  default_backend {_BACKEND}"]


def backend(
    kind: str, rules: Sequence[str], words: str, door: str = FIRST_DOOR, *, alone: bool = True
) -> Sequence[str]:
    """Return the backend, with ``rules`` and ``words`` for the server about connections. Who asks for a release that is
    not there must not be given another one. ``alone``: there is none of another door, which nobody can name here."""
    key, answer, said = f"str({_NEWEST})", "status 503", "no release to preview"
    if kind == HEADER:
        key, answer, said = _ASKED, "status 404", "no such release to preview"
        key += "" if alone else f",field(1,{_OF_DOOR})"
        key += f",concat({_OF_DOOR}{door})" if door else ""
    return [
        f"backend {_name(door)}",
        f"  http-request set-var(txn.to) {key},map_str({MAP})",
        f'  http-request return {answer} content-type text/plain string "{said}\\n" if !{{ var(txn.to) -m found }}',
        "  http-request set-dst var(txn.to),field(1,/)",
        "  http-request set-dst-port var(txn.to),field(2,/)",
        "  retries 0",
        *rules,
        f"{SERVER}{words}",
    ]


def counted_as_public(table: Mapping[tuple[str, str], Mapping[str, str]]) -> tuple[int, int]:
    """Return how many requests of the public frontends', and how many of their failures, were for a preview."""
    rows = [row for (name, kind), row in table.items() if kind == "BACKEND" and name.partition(":")[0] == _BACKEND]
    if ("preview", "FRONTEND") in table:
        return 0, 0
    return sum(int(row["req_tot"]) for row in rows), sum(int(row["hrsp_5xx"]) for row in rows)


def _name(door: str) -> str:
    return f"{_BACKEND}:{door}" if door else _BACKEND


def _entries(kind: str, previews: Previews) -> Mapping[str, str]:
    entries = {
        f"{number}{_OF_DOOR}{door}" if door else str(number): f"{address.host}/{address.port}"
        for number, by_door in sorted(previews.items())
        for door, address in sorted(by_door.items())
    }
    of_first = [number for number, by_door in previews.items() if FIRST_DOOR in by_door]
    if of_first and kind != HEADER:
        entries[_NEWEST] = entries[str(max(of_first))]
    return entries
