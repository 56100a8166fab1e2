"""Servers in front that say who asks, by the PROXY protocol: pure.

A connection from one of them begins with the protocol's header, and nobody else's does: whoever could say it could be
anybody.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from instar.errors import RouterError


def require(networks: Sequence[str], whose: str) -> None:
    """Raise RouterError for what is no address and no network, in its one form. ``whose``: "a router", "the edge"."""
    for network in networks:
        if not _is_network(network):
            raise RouterError(f"cannot configure {whose}: {network!r} is no address of a server in front")


def rules(networks: Sequence[str]) -> Sequence[str]:
    """Return the rules of a frontend. Nobody else is asked for the header."""
    lines = [f"  acl in-front src {network}" for network in networks]
    return [*lines, "  tcp-request connection expect-proxy layer4 if in-front"] if lines else []


def _is_network(text: str) -> bool:
    try:
        return str(ipaddress.ip_network(text)) in (text, f"{text}/32", f"{text}/128")
    except ValueError:
        return False
