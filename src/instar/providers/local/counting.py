"""How many requests an environment's router has answered: its HAProxies, one after the other.

HAProxy counts since it began itself. Before another takes its place, what those before it had answered is written down
(``counted.json``); what it goes on answering itself then, its successor's holder asks it until it ends
(``answered.json``). One that was killed has told nobody: then the counting begins anew, and it is known since when.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from instar.errors import RouterError
from instar.frozen import dataclass
from instar.model.codec import canonical, from_json, parse, to_json
from instar.process import Process
from instar.providers.router_state import Counters
from instar.router import admin_socket, previews, slots, waiting
from instar.router.admin_socket import Statistics
from instar.router.files import RouterFiles
from instar.router.maintenance import answered as answered_with_page

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Counted:
    """What the HAProxies before ``until`` had answered."""

    until: Process
    counters: Counters


@dataclass(frozen=True, kw_only=True, slots=True)
class _Answered:
    """What ``process`` says of itself; ``successor`` has its place."""

    process: Process
    successor: Process
    info: str
    statistics: str


def total(statistics: Statistics, info: str) -> Counters:
    """Return what one HAProxy has answered to the public, by all of its doors."""
    for_previews, failed_for_previews = previews.counted_as_public(statistics)
    again, failed_again = waiting.sent_again(statistics)
    refused, said = answered_with_page(statistics), admin_socket.read_info(info)
    each = [of_door(statistics, key) for key in slots.doors_of(name for name, row in statistics if row == "BACKEND")]
    requests, failed = sum(one.requests for one in each), sum(one.failed for one in each)
    return Counters(
        requests=requests - for_previews - again - refused,
        failed=failed - failed_for_previews - failed_again - refused,
        unlogged=int(said.get("DroppedLogs", 0)),
        since=datetime.fromtimestamp(int(said["Start_time_sec"]), UTC) if "Start_time_sec" in said else None,
    )


def of_door(table: Statistics, door: str) -> Counters:
    """Return what a door took since HAProxy began."""
    own = f":{door}" if door else ""
    named = (f"public{own}", f"inside{own}", *(() if door else ("door",)))
    fronts = [table[name, "FRONTEND"] for name in named if (name, "FRONTEND") in table]
    back = table[slots.backend(door), "BACKEND"]
    if back["mode"] == "tcp":
        return Counters(requests=sum(int(front["stot"]) for front in fronts), failed=int(back["econ"]))
    answered_short = int(back["srv_abrt"])  # one that got no answer at all is among the 5xx, as 502
    # connections without one are among the requests
    requests = sum(int(front["req_tot"]) - int(front["ereq"]) for front in fronts)
    return Counters(requests=requests, failed=sum(int(front["hrsp_5xx"]) for front in fronts) + answered_short)


def so_far(files: RouterFiles, haproxy: Process, own: Counters) -> Counters:
    """Return what ``haproxy``, which has answered its ``own``, and those before it have answered, since when nothing
    is missing in it."""
    before = _read(files.counted, _Counted)
    if before is not None and before.until == haproxy:  # another was about to follow it, and did not
        return own.and_before(before.counters)
    own, first = _with_the_one_before(files, haproxy, own)
    return own.and_before(before.counters) if before is not None and before.until == first else own


def keep(files: RouterFiles, haproxy: Process, own: Counters) -> None:
    """Write down what those before ``haproxy`` have answered, as another is about to follow it: what it has answered
    itself it goes on telling."""
    whole = so_far(files, haproxy, own)
    before = Counters(
        requests=whole.requests - own.requests,
        failed=whole.failed - own.failed,
        unlogged=whole.unlogged - own.unlogged,
        since=whole.since,
    )
    files.write(canonical(to_json(_Counted(until=haproxy, counters=before))).decode(), files.counted)


def _with_the_one_before(files: RouterFiles, haproxy: Process, own: Counters) -> tuple[Counters, Process]:
    assert files.answered is not None
    answered = _read(files.answered, _Answered)
    if answered is None or answered.successor != haproxy:
        return own, haproxy
    with contextlib.suppress(RouterError, KeyError, ValueError):
        told = total(admin_socket.read_statistics(answered.statistics), answered.info)
        return own.and_before(told), answered.process
    return own, haproxy


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return from_json(kind, parse(path.read_bytes()))
    except (OSError, ValueError):
        return None
