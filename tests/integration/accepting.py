"""A server of a test's own: it accepts connections on a loopback address until it is closed."""

from __future__ import annotations

import contextlib
import socket
import threading
from abc import ABC, abstractmethod

from instar.providers.router_state import Target


class Accepting(ABC):
    """Each connection is answered in a thread of its own; one that ends meanwhile is nobody's failure. It accepts from
    the end of ``__init__`` on, which comes last in that of whoever is one."""

    def __init__(self, name: str, host: str = "127.0.0.1") -> None:
        self.name = name
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listening = socket.create_server((host, 0), family=family, backlog=1024)
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def target(self) -> Target:
        host, port = self._listening.getsockname()[:2]
        return Target(name=self.name, address=host, port=port)

    @abstractmethod
    def answer(self, connection: socket.socket) -> None:
        """Read what is asked and answer it; the connection is closed afterwards."""

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self.answer(connection)
