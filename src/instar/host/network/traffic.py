"""How much went through each link of a network namespace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from instar.host.processes import proc

_SENT = 8  # the column of the bytes that were sent; those received are the first


class LinkTraffic(NamedTuple):
    """Bytes since the link was made, as the link itself sees them."""

    received_bytes: int
    sent_bytes: int


def traffic() -> Mapping[str, LinkTraffic]:
    """Return it of all links of this process's network namespace, by name. Source: proc(5), /proc/pid/net/dev."""
    found = {}
    for line in proc.read("/proc/self/net/dev").decode(errors="surrogateescape").split("\n")[2:]:
        name, colon, numbers = line.rpartition(":")
        if colon:
            columns = numbers.split()
            found[name.strip()] = LinkTraffic(int(columns[0]), int(columns[_SENT]))
    return found
