"""Which release's requests go to which server whatever its weight: pure.

They are in a map of HAProxy's, release number → where its server is, which is changed while HAProxy runs and read from
``preview.map`` when it starts. The servers' slots have no part in it: a request for a release goes through a backend
of its own, so that it counts as nobody's traffic.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from instar.errors import RouterError
from instar.router.address import Address
from instar.router.slots import Slots, find, held

HEADER: Final = "header"
MAP: Final = "preview.map"
SHOW: Final = f"show map {MAP}"

SERVER: Final = "  server target 0.0.0.0:0"  # wherever the request was told to go

_BACKEND: Final = "previewed"
_NEWEST: Final = "newest"  # the key of requests to the preview address: the highest number's
_LINE = re.compile(r"(?:0x[0-9a-f]+ )?(?P<key>\S+) (?P<host>[0-9a-f.:]+)/(?P<port>\d{1,5})", re.ASCII)
_RELEASE = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)

Previews = Mapping[int, Address]


def chosen(slots: Slots, names: Mapping[int, str]) -> Previews:
    """Return where the servers of those ``names`` are that ``slots`` hold."""
    found = {}
    for number, name in names.items():
        if not _RELEASE.fullmatch(str(number)):
            raise RouterError(f"cannot preview {number!r}: it is no release's number")
        index = find(slots, name)
        server = None if index is None else slots[index]
        if server is not None:
            found[number] = server.address
    return found


def kept(slots: Slots, previews: Previews) -> Previews:
    """Return those of ``previews`` whose servers ``slots`` still hold."""
    there = {server.address for _, server in held(slots)}
    return {number: address for number, address in previews.items() if address in there}


def named(slots: Slots, previews: Previews) -> Mapping[int, str]:
    names = {server.address: server.name for _, server in held(slots)}
    return {number: names[address] for number, address in sorted(kept(slots, previews).items())}


def render(kind: str, previews: Previews) -> str:
    """Return the file. ``kind``: "header", or the address where the highest number's server is reached."""
    return "".join(f"{key} {value}\n" for key, value in _entries(kind, previews).items())


def read(text: str) -> Previews:
    """Read the file, or what HAProxy showed of its map."""
    found = (_LINE.fullmatch(line) for line in text.splitlines())
    return {
        int(match["key"]): Address.of(match["host"], int(match["port"]))
        for match in found
        if match and _RELEASE.fullmatch(match["key"])
    }


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


def selection(kind: str | None) -> Sequence[str]:
    """Return what the public frontend needs: without a preview by header, the header means nothing."""
    return [f"  use_backend {_BACKEND} if {{ req.fhdr(X-Instar-Release) -m found }}"] if kind == HEADER else []


def frontend(variable: str, address: Address, rules: Sequence[str]) -> Sequence[str]:
    return ["frontend preview", f'  bind "fd@${{{variable}}}" # {address}', *rules, f"  default_backend {_BACKEND}"]


def backend(kind: str, rules: Sequence[str], words: str) -> Sequence[str]:
    """Return the backend, with ``rules`` and ``words`` for the server about connections. Who asks for a release that is
    not there must not be given another one."""
    key, answer, said = f"str({_NEWEST})", "status 503", "no release to preview"
    if kind == HEADER:
        key, answer, said = "req.fhdr(X-Instar-Release)", "status 404", "no such release to preview"
    return [
        f"backend {_BACKEND}",
        f"  http-request set-var(txn.to) {key},map_str({MAP})",
        f'  http-request return {answer} content-type text/plain string "{said}\\n" if !{{ var(txn.to) -m found }}',
        "  http-request set-dst var(txn.to),field(1,/)",
        "  http-request set-dst-port var(txn.to),field(2,/)",
        "  retries 0",
        *rules,
        f"{SERVER}{words}",
    ]


def counted_as_public(table: Mapping[tuple[str, str], Mapping[str, str]]) -> tuple[int, int]:
    """Return how many requests of the public frontend's, and how many of its failures, were for a preview."""
    row = table.get((_BACKEND, "BACKEND"))
    if row is None or ("preview", "FRONTEND") in table:
        return 0, 0
    return int(row["req_tot"]), int(row["hrsp_5xx"])


def _entries(kind: str, previews: Previews) -> Mapping[str, str]:
    entries = {str(number): f"{address.host}/{address.port}" for number, address in sorted(previews.items())}
    if previews and kind != HEADER:
        entries[_NEWEST] = entries[str(max(previews))]
    return entries
