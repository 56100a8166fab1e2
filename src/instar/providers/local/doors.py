"""What HAProxy says of the doors of one environment's router: the slots, and what was answered by each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from instar.model.release import Served
from instar.model.roles import FIRST_DOOR
from instar.providers.local.proxy import Proxy
from instar.router import admin_socket, served, slots
from instar.router.plan import RouterFilePlan
from instar.router.slots import Live


def looked(
    proxy: Proxy, plan: RouterFilePlan
) -> tuple[Mapping[str, Sequence[Live]], served.Statistics, Mapping[str, Mapping[int, Served]]]:
    """Return the slots of each door, HAProxy's statistics, and what the servers in the slots of each door that counts
    answered."""
    doors = [FIRST_DOOR, *(one.key for one in plan.doors)]
    counting = [door for door in doors if served.is_counted(door)]
    shown = [f"show servers state {slots.backend(door)}" for door in doors]
    *each, text = proxy.ask(*shown, *(served.show(door) for door in counting), "show stat")
    statistics = admin_socket.read_statistics(text)
    states, tables = each[: len(doors)], each[len(doors) :]
    live = {door: slots.read_state(state) for door, state in zip(doors, states, strict=True)}
    counted = {door: served.read(statistics, table, door) for door, table in zip(counting, tables, strict=True)}
    return live, statistics, counted


def unanswered(held: slots.Slots, live: Mapping[str, Sequence[Live]]) -> Iterator[str]:
    """Yield the servers that a door leads to, of a further port, which does not answer there."""
    for door, rows in live.items():
        for index, server in slots.held(slots.seen_from(door, held)):
            further = door != server.door and index < len(rows)
            if further and rows[index].address == server.address and not (rows[index].up or rows[index].maintenance):
                yield server.name


def sessions(statistics: served.Statistics) -> dict[int, int]:
    """Return how many requests (connections, in tcp mode) each slot has in flight, by all doors."""
    found = dict[int, int]()
    for (proxy, name), row in statistics.items():
        if slots.doors_of([proxy]) and (index := slots.index_of(name)) is not None:
            found[index] = found.get(index, 0) + int(row["scur"])
    return found
