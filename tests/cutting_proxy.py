"""A proxy on a port of its own that cuts a connection where it is told: in front of the n-th thing that a client says
(nobody hears it), or behind it (it is heard, and the answer is lost)."""

from __future__ import annotations

import contextlib
import socket
import threading


class CuttingProxy:
    """``cut_at`` counts what clients have said since :meth:`arm`; ``heard`` whether that one still gets through.

    ``dark``: connections are made, and nothing passes in either direction any more.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self.said = 0
        self.cuts = 0
        self.dark = False
        self._cut_at: int | None = None
        self._heard = False
        self._guard = threading.Lock()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, cut_at: int | None, *, heard: bool = False) -> None:
        with self._guard:
            self.said, self._cut_at, self._heard = 0, cut_at, heard

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # who waits in accept() would keep it
        self._listening.close()
        with self._guard:
            for one in self._open:
                _end(one)

    def cut_all(self) -> None:
        with self._guard:
            for one in self._open:
                _end(one)
            self._open.clear()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:  # there is no server just now
                client.close()
                continue
            with self._guard:
                self._open += [client, server]
            threading.Thread(target=self._ask, args=(client, server), daemon=True).start()
            threading.Thread(target=self._answer, args=(client, server), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                if self.dark:
                    continue
                with self._guard:
                    here = self.said == self._cut_at
                    self.said += 1
                    self.cuts += here
                if here and self._heard:
                    client.shutdown(socket.SHUT_RDWR)  # first: the answer must find nobody
                    server.sendall(data)
                    server.shutdown(socket.SHUT_WR)
                    while server.recv(1 << 16):
                        pass
                if here:
                    break
                server.sendall(data)
        _end(client)
        _end(server)

    def _answer(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 16):
                if not self.dark:
                    client.sendall(data)
        _end(client)


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
