"""Which address a new instance gets: the next free one after the last that was given, round and round.

An address that has just become free is thus the last to be used again, long after everybody has forgotten it.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network


def next_free(network: IPv4Network, held: Collection[str], last: str | None, count: int) -> tuple[str, ...]:
    """Return up to ``count`` addresses of ``network`` that are not ``held``, beginning after ``last``.

    The network's own address, its broadcast address and its first host (the provider's) are nobody's.
    """
    first, end = int(network.network_address) + 2, int(network.broadcast_address)
    room = max(end - first, 0)
    before = int(IPv4Address(last)) if last is not None else 0
    start = before + 1 - first if first <= before < end else 0
    taken = {int(IPv4Address(address)) for address in held}
    found: list[str] = []
    for step in range(room):
        if len(found) == count:
            break
        candidate = first + (start + step) % room
        if candidate not in taken:
            found.append(str(IPv4Address(candidate)))
    return tuple(found)
