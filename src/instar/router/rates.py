"""How many requests one client may send: pure.

HAProxy counts what it lets through, by client, in a table that is gone when it is; what it refuses counts for nothing,
so that a client which asks too often gets as many answers as one that does not. Its count of a time is that of the
running one and the part of the one before that still counts, as if those had come evenly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from instar.model.requests import Rate

MOST: Final = 1_000_000
LONGEST_MS: Final = 24 * 3_600_000
_TABLE: Final = "clients"
_ROOM: Final = 100_000  # clients at a time; the one that has not asked for longest makes room

# Who asks by way of a server on this machine is who that server says, last in its list: so is a request that a retired
# HAProxy held, and that comes again. An address of IPv4 in one of IPv6 is not cut to a network that has all of them.
_SAID: Final = "req.hdr_ip(X-Forwarded-For,-1)"
_HERE: Final = "{ src 127.0.0.0/8 ::1 }"
_MAPPED: Final = "::ffff:0:0/96"
_CLIENT: Final = (
    f"  http-request track-sc1 {_SAID} table {_TABLE} if {_HERE} {{ {_SAID} {_MAPPED} }}",
    f"  http-request track-sc1 {_SAID},ipmask(32,64) table {_TABLE} if {_HERE}",
    f"  http-request track-sc1 src table {_TABLE} if {{ src {_MAPPED} }}",
    f"  http-request track-sc1 src,ipmask(32,64) table {_TABLE}",
)


def rules(rate: Rate | None) -> Sequence[str]:
    """Return the rules of a frontend, which come before all that changes what a server in front has said."""
    if rate is None:
        return ()
    again_s = -(-rate.within_ms // 1_000)
    return (
        *_CLIENT,
        f"  http-request return status 429 hdr Retry-After {again_s} content-type text/plain"
        f' string "too many requests\\n" if {{ sc_gpc0_rate(1) ge {rate.requests} }}',
        "  http-request sc-inc-gpc0(1)",
    )


def backend(rate: Rate | None) -> Sequence[str]:
    """Return the table, which is a backend of its own."""
    if rate is None:
        return ()
    kept = f"size {_ROOM} expire {2 * rate.within_ms}ms store gpc0_rate({rate.within_ms}ms)"
    return (f"backend {_TABLE}", f"  stick-table type ipv6 {kept}")
