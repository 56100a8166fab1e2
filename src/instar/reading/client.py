"""Asking the agent, as one of those who may only look."""

from __future__ import annotations

import contextlib
import grp
import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from instar.errors import AgentUnreachable, InstarError, NotRoot
from instar.reading.answers import Answer, Part
from instar.reading.questions import VERSION, Question, is_live
from instar.reading.wire import LONGEST_BYTES, End, Failure, greeted_version, question_line, read_part

_GREETS_WITHIN_S: Final = 10.0
_GOES_ON_WITHIN_S: Final = 120.0  # longer than the agent lets an answer take that ends
_PIECE_BYTES: Final = 262_144
_CREDENTIALS: Final = struct.Struct("=iII")  # pid, uid, gid. Source: unix(7)
_RUN: Final = "start it (systemctl start instar-agent), or ask again with sudo"


def group_of(path: Path) -> str | None:
    """Return the group that may ask at a socket; None where there is no socket. A group without a name has a number."""
    try:
        number = path.stat().st_gid
    except OSError:
        return None
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def ask(path: Path, question: Question) -> Answer:
    """Have the agent that listens at ``path`` answer. Raises NotRoot for whoever is not in its group; AgentUnreachable
    where it does not run, or ended meanwhile; and what the answer itself is an error."""
    with _connected(path) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it says why, and does not read
            connection.sendall(question_line(question))
        lines = _lines(connection)
        _require_same_version(next(lines, b""))
        connection.settimeout(None if is_live(question) else _GOES_ON_WITHIN_S)
        for line in lines:
            part = _part(line)
            if isinstance(part, End):
                return part.exit_status
            if isinstance(part, Failure):
                raise part.error()
            yield part
    raise AgentUnreachable("cannot go on: the agent ended while it answered", hint="ask again")


@contextlib.contextmanager
def _connected(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as connection:
        _connect(connection, path)
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        if _CREDENTIALS.unpack(credentials)[1] != 0:
            raise AgentUnreachable(f"cannot ask at '{path}': whoever listens there is not root")
        try:
            yield connection
        except TimeoutError as error:
            raise AgentUnreachable("cannot ask the agent: it does not answer", hint="ask again with sudo") from error
        except ConnectionError as error:
            raise AgentUnreachable("cannot go on: the agent ended while it answered", hint="ask again") from error


def _connect(connection: socket.socket, path: Path) -> None:
    until = time.monotonic() + _GREETS_WITHIN_S
    connection.settimeout(_GREETS_WITHIN_S)
    while True:
        try:
            connection.connect(os.fspath(path))
            return
        except PermissionError as error:
            group = group_of(path)
            raise NotRoot(
                f"cannot ask the agent: you are not in the group '{group}', which may look at what runs here",
                hint=f"with root's help: usermod --append --groups {group} YOU, then log in anew; or ask with sudo",
            ) from error
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise AgentUnreachable(f"cannot ask the agent: none runs that listens at '{path}'", hint=_RUN) from error
        except BlockingIOError as error:  # many ask at once
            if time.monotonic() > until:
                raise AgentUnreachable("cannot ask the agent: too many do at once", hint="ask again later") from error
            time.sleep(0.05)


def _lines(connection: socket.socket) -> Iterator[bytes]:
    rest = bytearray()
    while True:
        piece = connection.recv(_PIECE_BYTES)
        if not piece:
            return
        rest += piece
        if b"\n" in piece:
            *lines, last = bytes(rest).split(b"\n")
            yield from lines
            rest = bytearray(last)
        if len(rest) > 2 * LONGEST_BYTES:
            raise AgentUnreachable("cannot read the agent's answer: it is too long")


def _require_same_version(line: bytes) -> None:
    try:
        version = greeted_version(line) if line else VERSION
    except ValueError:
        version = None
    if version != VERSION:
        raise AgentUnreachable(
            f"cannot ask the agent: it speaks version {version} of what is asked here in version {VERSION}",
            hint="restart it: it is of another version of Instar",
        )


def _part(line: bytes) -> Part | End | Failure:
    try:
        return read_part(line)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise InstarError("cannot read the agent's answer: it is of another version", hint="restart it") from error
