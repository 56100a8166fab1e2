"""The process at the agent's socket for readers: its standard input listens, its argument is the group's number."""

from __future__ import annotations

import socket
import sys

from instar.reading.server import serve

serve(socket.socket(fileno=0), int(sys.argv[1]))
