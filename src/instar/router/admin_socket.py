"""HAProxy's admin socket: allowed commands only, several in one connection.

The socket is reached through its directory's descriptor, so that the length of the path does not matter (a socket's
path has at most 107 bytes).
"""

from __future__ import annotations

import csv
import os
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from instar.errors import RouterError, RouterUnreachable
from instar.router.previews import MAP
from instar.router.slots import BACKEND

_SLOT = rf"{BACKEND}/s[1-9][0-9]{{0,4}}"
_MAP, _KEY = re.escape(MAP), r"(?:[1-9][0-9]{0,9}|newest)"
_NUMBER = r"[0-9]{1,10}"
_ALLOWED = re.compile(
    r"show info"
    rf"|show servers state {BACKEND}"
    r"|show stat"
    r"|show acl(?: #[0-9]{1,6})?"
    rf"|set server {_SLOT} weight [0-9]{{1,3}}"
    rf"|set server {_SLOT} state (?:ready|drain|maint)"
    rf"|set server {_SLOT} addr [0-9a-f.:]{{2,45}} port [0-9]{{1,5}}"
    rf"|show table {BACKEND}"
    rf"|set table {BACKEND} key [1-9][0-9]{{0,5}} data\.gpt0 {_NUMBER} data\.gpc0 {_NUMBER} data\.gpc1 {_NUMBER}"
    rf"|show map {_MAP}"
    rf"|(?:add|set) map {_MAP} {_KEY} [0-9a-f.:]{{2,45}}/[0-9]{{1,5}}"
    rf"|del map {_MAP} {_KEY}"
    rf"|shutdown sessions server {_SLOT}",
    re.ASCII,
)
_TALKS = ("IP changed from", "no need to change", "port changed from")  # what HAProxy says when it did as it was told
_PROMPT = "\n> "


def ask(directory: Path, name: str, commands: Sequence[str], *, timeout_s: float = 5.0) -> tuple[str, ...]:
    """Send ``commands`` to the socket ``name`` in ``directory`` and return their answers, in order.

    Raises:
        RouterUnreachable: there is no answer.
        RouterError: HAProxy refused a command; those after it were carried out.
    """
    for command in commands:
        if not _ALLOWED.fullmatch(command):
            raise RouterError(f"cannot tell the router {command!r}: not one of the commands it is told")
    text = _exchange(directory, name, commands, timeout_s)
    answers = text.removeprefix(_PROMPT).split(_PROMPT)[: len(commands)]
    if len(answers) != len(commands):
        raise RouterUnreachable("cannot speak to the router: it ended the connection")
    for command, answer in zip(commands, answers, strict=True):
        if not command.startswith("show ") and answer.strip() and not answer.strip().startswith(_TALKS):
            raise RouterError(f"cannot carry out {command!r}: HAProxy says: {answer.strip()}")
    return tuple(answers)


def read_info(text: str) -> Mapping[str, str]:
    """Read what ``show info`` printed."""
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.strip().split("\n"))}


def read_statistics(text: str) -> Mapping[tuple[str, str], Mapping[str, str]]:
    """Read what ``show stat`` printed: (proxy, server) → the columns by name."""
    rows = csv.DictReader(text.strip().removeprefix("# ").split("\n"))  # no other character ends a line
    try:
        return {(row["pxname"], row["svname"]): row for row in rows}
    except (csv.Error, KeyError) as error:
        raise RouterError(f"cannot read the router's counters: {error}") from error


def _exchange(directory: Path, name: str, commands: Sequence[str], timeout_s: float) -> str:
    lines = "".join(f"{line}\n" for line in ("prompt", *commands, "quit"))
    try:
        holder = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(timeout_s)
                connection.connect(f"/proc/self/fd/{holder}/{name}")
                connection.sendall(lines.encode("ascii"))
                return _received(connection)
        finally:
            os.close(holder)
    except OSError as error:
        raise RouterUnreachable(f"cannot speak to the router: {error}") from error


def _received(connection: socket.socket) -> str:
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts).decode("utf-8", "replace")
