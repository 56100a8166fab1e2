"""Ports for tests to listen on."""

from __future__ import annotations

import random
import socket

_BELOW_CONNECTIONS = range(20_000, 32_000)  # nobody who connects is given one: net.ipv4.ip_local_port_range


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on, and that no connection takes meanwhile."""
    while True:
        port = random.choice(_BELOW_CONNECTIONS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
