"""One command in a container, with its streams on descriptors of this process: over a websocket, by channels.

Source: Kubernetes, remotecommand, "v5.channel.k8s.io": the first byte of a message is its channel; on 255 is said which
one ends. The last message is a Status on channel 3.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import threading
import tty
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from instar.errors import InstarError, ProviderError, ProviderUnavailable
from instar.providers.base import Streams
from instar.terminal.terminal import Terminal, write

if TYPE_CHECKING:
    from httpx2.websockets import WebSocketSession

PROTOCOLS: Final = ["v5.channel.k8s.io"]
_STDIN, _STDOUT, _STDERR, _STATUS, _SIZE, _END = 0, 1, 2, 3, 4, 255
_PIECE_BYTES: Final = 32_768
_LOOK_S: Final = 0.3  # from one look at the terminal's size to the next, and at whether the connection is open
_NOT_FOUND: Final = ("no such file or directory", "executable file not found", "not found in $PATH")


class RemoteCommand:
    """A command that was begun. What it prints is handed on, and what is typed, until it has ended."""

    def __init__(
        self,
        connection: contextlib.AbstractContextManager[WebSocketSession],
        streams: Streams,
        what: str,
        *,
        on_terminal: bool | None = None,
    ):
        """``on_terminal``: its streams are a terminal of ours; None: they are if they are one."""
        self._what = what
        self._failure: InstarError | None = None
        self._status: int | None = None
        self._open = contextlib.ExitStack()
        self._socket = self._open.enter_context(connection)
        self._ends = {channel: os.dup(end) for channel, end in zip((0, 1, 2), _ends(streams), strict=True)}
        own = self._ends[_STDIN]
        is_terminal = os.isatty(own) if on_terminal is None else on_terminal
        self._terminal = Terminal(stdin=own, stdout=own) if is_terminal else None
        self._ended, self._told = os.pipe2(os.O_CLOEXEC)
        self._stop, self._stopped = os.pipe2(os.O_CLOEXEC)
        if self._terminal is not None:
            tty.setraw(own)  # the terminal that acts on keys is the one inside
        self._threads = [threading.Thread(target=one, daemon=True) for one in (self._receive, self._send)]
        for thread in reversed(self._threads):  # what receives may have all of it at once, and waits for what sends
            thread.start()

    def ended(self) -> int:
        """Return a descriptor that can be read from once it has ended."""
        return self._ended

    def wait(self) -> int:
        """Return its exit status. Raises ProviderError where it could not begin, or nobody knows how it ended."""
        self._threads[0].join()
        if self._failure is not None:
            raise self._failure
        assert self._status is not None
        return self._status

    def close(self) -> None:
        """Let go of it: who is on its terminal hears that this is gone."""
        self._open.close()
        for thread in self._threads:
            thread.join(5)
        for descriptor in (self._ended, self._stopped):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _receive(self) -> None:
        try:
            while self._status is None:
                message = self._next_message()
                if not message:
                    continue
                if message[0] in (_STDOUT, _STDERR):
                    write(self._ends[message[0]], message[1:])
                elif message[0] == _STATUS:
                    self._status = exit_status(message[1:], self._what)
        except InstarError as error:
            self._failure = error
        except Exception as error:  # the library's and the socket's own: nobody says any more how it ends
            self._failure = ProviderUnavailable(f"cannot {self._what} to its end: the connection was lost ({error!r})")
        finally:
            os.close(self._stopped_once())
            for one in self._ends.values():
                os.close(one)
            os.close(self._told)

    def _next_message(self) -> bytes:
        """Return it as soon as it is there. Raises what the connection was lost by: the library closes one that it
        cannot send by, and who receives may hear nothing of that."""
        from wsproto.connection import ConnectionState

        while True:
            is_open = self._socket.connection.state is ConnectionState.OPEN
            try:
                return self._socket.receive_bytes(_LOOK_S)
            except TimeoutError:
                if not is_open:
                    raise

    def _stopped_once(self) -> int:
        """End what sends, and return a descriptor to be closed after that."""
        os.write(self._stopped, b"x")
        self._threads[1].join()
        return self._stop

    def _send(self) -> None:
        size: tuple[int, int] | None = None
        reading = [self._ends[_STDIN], self._stop]
        with contextlib.suppress(Exception):  # a connection that is gone is told by what receives
            while True:
                if self._terminal is not None and (now := self._terminal.size()) != size:
                    size = now
                    told = {"Width": size[0], "Height": size[1]}
                    self._socket.send_bytes(bytes((_SIZE,)) + json.dumps(told).encode())
                readable, _, _ = select.select(reading, [], [], _LOOK_S if self._terminal is not None else None)
                if self._stop in readable:
                    return
                if reading[0] in readable and reading[0] != self._stop:
                    piece = os.read(reading[0], _PIECE_BYTES)
                    self._socket.send_bytes(bytes((_STDIN,)) + piece if piece else bytes((_END, _STDIN)))
                    reading = reading if piece else [self._stop]


def _ends(streams: Streams) -> tuple[int, int, int]:
    return streams.stdin, streams.stdout, streams.stderr


def exit_status(data: bytes, what: str) -> int:
    """Return the exit status that a Status tells. Raises ProviderError where it says that nothing began."""
    try:
        found: Any = json.loads(data)
        status, reason = found["status"], found.get("reason")
        if status == "Success":
            return 0
        if reason == "NonZeroExitCode":
            return _code(found["details"])
        message = " ".join(str(found.get("message") or reason).split())[:400]
    except (ValueError, KeyError, TypeError, StopIteration):
        raise ProviderError(f"cannot {what}: how it ended was not told in words that are known") from None
    hint = None
    if any(one in message for one in _NOT_FOUND):
        hint = "the image has no shell; --toolbox opens one beside it, of the image that kubernetes.toolbox names"
    raise ProviderError(f"cannot {what}: {message}", hint=hint)


def _code(details: Mapping[str, Any]) -> int:
    return next(int(one["message"]) for one in details["causes"] if one.get("reason") == "ExitCode")
