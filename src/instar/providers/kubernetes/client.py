"""httpx2's client, whose websockets are closed in order.

Its own way takes the descriptor from under the thread that still reads from it, which then reads from whatever
connection gets that number next: its beginning is lost, and it ends with "wrong version number".
"""

from __future__ import annotations

import contextlib
import queue
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx2

if TYPE_CHECKING:
    from httpx2.websockets import WebSocketSession


class Client(httpx2.Client):
    @contextlib.contextmanager
    def websocket(self, url: httpx2.URL | str, **options: Any) -> Iterator[WebSocketSession]:
        with super().websocket(url, **options) as session:
            try:
                yield session
            finally:
                _end_reading(session)


def _end_reading(session: WebSocketSession) -> None:
    """Return when nobody reads from the connection any more, which is of no use from then on."""
    connection = session.stream.get_extra_info("socket")
    if not isinstance(connection, socket.socket):
        return
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # TLS' own takes its state from under the other thread
    while session._background_receive_task.is_alive():
        with contextlib.suppress(queue.Empty):  # it may wait for room there
            session._events.get(timeout=0.01)
