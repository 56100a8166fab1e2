"""Requests that wait in the router while no server can take them, up to a time: pure.

HAProxy queues only where a server is there that is busy; where none is, as in the gap of an exclusive volume, it
answers 503. So a few lines of Lua, which HAProxy reads when it starts, hold a request that comes then and look again
and again. One that a retired HAProxy holds would never see a server: it goes through the door once more, to the one in
force. ``wait.lua`` beside haproxy.cfg is always the same text.

It looks ten times a second and not more often: where a sleep is over before HAProxy has noted it, as one of a few
milliseconds can be on a busy machine, a connection of TCP (no request of HTTP) is looked at again when all its time is
over.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Final

from instar.model.roles import FIRST_DOOR
from instar.router.address import Address
from instar.router.slots import BACKEND
from instar.router.slots import backend as of_door

SCRIPT: Final = "wait.lua"
SERVER: Final = "  server again "
DOOR_PATH: Final = "INSTAR_DOOR_PATH"  # the variable of the path of its socket, as HAProxy sees it
_WAITS: Final = """\
-- Hold a request until a server can take it. Written by Instar, not meant to be edited.
local looked_ms, stopping = 0, false

local function now_ms()
  local now = core.now()
  return now.sec * 1000 + now.usec // 1000
end

local function retired(now)
  if now - looked_ms >= 50 then
    looked_ms = now
    stopping = tostring(core.get_info()["Stopping"]) == "1"
  end
  return stopping
end

"""


def _action(name: str, words: str, backend: str, count: int) -> str:
    return f"""\
core.register_action("{name}", {{"tcp-req", "http-req"}}, function({words})
  local began = now_ms()
  local deadline = began + tonumber(longest_ms)
  while true do
    local now = now_ms()
    if now >= deadline or tonumber(txn.f:nbsrv({backend})) > 0 then return end
    if retired(now) then
      txn:set_var("txn.again", true)
      return
    end
    core.msleep(math.min(100, deadline - now))
  end
end, {count})
"""


TEXT: Final = _WAITS + _action("wait", "txn, longest_ms", f'"{BACKEND}"', 1)
_BY_DOOR: Final = "\n" + _action("wait_for", "txn, longest_ms, backend", "backend", 2)
_AGAIN: Final = "again"


def text(*, by_door: bool) -> str:
    """Return the script. ``by_door``: others than the first wait too."""
    return TEXT + _BY_DOOR if by_door else TEXT


def hold(mode: str, wait_ms: int, *, door: str = FIRST_DOOR, only: Sequence[str] = ()) -> Sequence[str]:
    """Return the rules of a public frontend. ``only``: conditions of what is for the servers of ``door``."""
    if not wait_ms:
        return ()
    action = f"lua.wait_for {wait_ms} {of_door(door)}" if door else f"lua.wait {wait_ms}"
    held = " ".join([f"{action} if {{ nbsrv({of_door(door)}) lt 1 }}", *only])
    if mode == "http":
        return (f"  http-request {held}",)
    return (f"  tcp-request inspect-delay {wait_ms + 1_000}ms", f"  tcp-request content {held}")


def selection(wait_ms: int, door: str = FIRST_DOOR, *, only: Sequence[str] = ()) -> Sequence[str]:
    return (" ".join([f"  use_backend {_name(door)} if {{ var(txn.again) -m bool }}", *only]),) if wait_ms else ()


def backend(listen: Address, answer_ms: int, in_front: Sequence[str], door: str = FIRST_DOOR) -> Sequence[str]:
    """Return the backend that leads to where a door listens again. It comes from a loopback address, so that what was
    said at its first time is believed; with the PROXY protocol if that is asked of who comes from there."""
    loopback = "::1" if listen.version == 6 else "127.0.0.1"
    to = Address(loopback, listen.port) if listen.everywhere else listen
    asked = any(ipaddress.ip_address(loopback) in ipaddress.ip_network(one) for one in in_front)
    server = f"{SERVER}{to} source {loopback}{' send-proxy-v2' if asked else ''}"
    return (f"backend {_name(door)}", f"  timeout server {answer_ms}ms", server)


def by_the_edge(answer_ms: int, door: str = FIRST_DOOR) -> Sequence[str]:
    """The same, of a router that only the edge can ask: it sees the socket for that, and says who asked."""
    return (
        f"backend {_name(door)}",
        f"  timeout server {answer_ms}ms",
        f'{SERVER}"unix@${{{DOOR_PATH}}}" send-proxy-v2',
    )


def sent_again(table: Mapping[tuple[str, str], Mapping[str, str]]) -> tuple[int, int]:
    """Return how many requests (of tcp, connections) went to the next HAProxy, and how many of them failed there: that
    one counts them too."""
    rows = [row for (name, kind), row in table.items() if kind == "BACKEND" and name.partition(":")[0] == _AGAIN]
    http = [row for row in rows if row["mode"] == "http"]
    sent = sum(int(row["req_tot"]) for row in http) + sum(int(row["stot"]) for row in rows if row["mode"] != "http")
    return sent, sum(int(row["hrsp_5xx"]) for row in http)


def _name(door: str) -> str:
    return f"{_AGAIN}:{door}" if door else _AGAIN
