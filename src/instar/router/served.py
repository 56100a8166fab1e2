"""What each slot's server has answered since it came there: HAProxy's words for it, and how they are read. Pure.

HAProxy counts for a slot since it began itself, whoever sat there, and knows no sum of times. So its backend has a
table of two rows a slot, which is gone when HAProxy is, like the counters that it completes::

    key  SLOT             gpc0 · 2³⁰ + gpt0: the milliseconds until the heads of all answers
    key  SLOT + 100,000   gpc0 · 2³⁰ + gpt0: the slot's requests, and gpc1: its failures, when its server came

A sum is read, added to and written by rules that run one after the other: of two answers in the same microsecond one
may be missing in it (3 of 10,000 at 20,000 requests a second). ``date`` is cut to whole milliseconds at both ends,
so the cuts cancel out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from instar.errors import RouterError
from instar.model.release import Served
from instar.model.roles import FIRST_DOOR
from instar.router.slots import backend, index_of

_BEFORE: Final = 100_000  # more than there can be slots
_BITS: Final = 30
_FULL: Final = 1 << _BITS
_ROW = re.compile(r"^0x[0-9a-f]+: key=(\d+) .*?gpt0=(\d+) gpc0=(\d+) gpc1=(\d+)", re.ASCII | re.MULTILINE)

TABLE: Final = f"  stick-table type integer size {2 * _BEFORE} store gpt0,gpc0,gpc1"
RULES: Final = (
    "  http-request set-var(txn.began) date(0,ms)",
    "  http-response track-sc0 srv_id",
    "  http-response set-var(txn.took) date(0,ms),sub(txn.began)",
    f"  http-response sc-inc-gpc0(0) if {{ sc_get_gpt0(0),add(txn.took) ge {_FULL} }}",
    f"  http-response sc-set-gpt0(0) sc_get_gpt0(0),add(txn.took),mod({_FULL})",
)

Statistics = Mapping[tuple[str, str], Mapping[str, str]]


def is_counted(door: str) -> bool:
    """Tell whether what is answered by way of a door counts for its servers: of each role its own port's does."""
    return "." not in door


def show(door: str = FIRST_DOOR) -> str:
    return f"show table {backend(door)}"


def totals(statistics: Statistics, door: str = FIRST_DOOR) -> Mapping[int, Served]:
    """Return what the servers of each slot (its index) have answered since HAProxy began, by its own counters."""
    return {
        index: _total(row)
        for (proxy, name), row in statistics.items()
        if proxy == backend(door) and (index := index_of(name)) is not None
    }


def read(statistics: Statistics, table: str, door: str = FIRST_DOOR) -> Mapping[int, Served]:
    """Return what the server in each slot has answered."""
    if not _kept(table):
        return {}
    rows = {int(key): (int(high) * _FULL + int(low), int(third)) for key, low, high, third in _ROW.findall(table)}
    found = {}
    for index, total in totals(statistics, door).items():
        requests, failed = rows.get(_BEFORE + index + 1, (0, 0))
        response_ms, _ = rows.get(index + 1, (0, 0))
        since = total.since(Served(requests=requests, failed=failed))
        found[index] = Served(requests=since.requests, failed=since.failed, response_ms=response_ms)
    return found


def beginnings(indices: Iterable[int], statistics: Statistics, table: str, door: str = FIRST_DOOR) -> Sequence[str]:
    """Return the commands that have the counting begin at nought for the slots that servers are about to come to."""
    if not _kept(table):
        return ()
    before = totals(statistics, door)
    lines = []
    for index in indices:
        if index not in before:
            raise RouterError("cannot change the router: it has not the slots that its file says")
        high, low = divmod(before[index].requests, _FULL)
        lines += [
            f"set table {backend(door)} key {index + 1} data.gpt0 0 data.gpc0 0 data.gpc1 0",
            f"set table {backend(door)} key {_BEFORE + index + 1}"
            f" data.gpt0 {low} data.gpc0 {high} data.gpc1 {before[index].failed}",
        ]
    return lines


def _kept(table: str) -> bool:
    """Tell whether HAProxy has the table: one that an older Instar started has none."""
    return table.startswith("# table:")


def _total(row: Mapping[str, str]) -> Served:
    """``eresp`` are answers that broke off, before their heads and after; those after it are also in ``srv_abrt``, and
    their heads in ``req_tot``. A refused connection that went on to another server is in ``wredis``, one that was
    tried here again in ``wretr``. Source: HAProxy 2.6 management guide, 9.1 "CSV format", and trying."""
    count = {name: int(row[name] or 0) for name in ("stot", "econ", "wretr", "wredis")}
    unconnected = count["econ"] + count["wredis"]
    if row["mode"] == "tcp":
        return Served(requests=count["stot"] - count["wretr"], failed=unconnected)
    broken = int(row["eresp"])
    headless = max(0, broken - int(row["srv_abrt"]))
    failed = int(row["hrsp_5xx"]) + broken + unconnected
    return Served(requests=int(row["req_tot"]) + headless + unconnected, failed=failed)
