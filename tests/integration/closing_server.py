"""A server that closes a connection that was idle for a time, to the moment, and counts what it was sent; and clients
that post to it through a router at just those moments.

Usage: closing_server.py IDLE_S, which prints its port. POST / answers with what it was sent; GET /count with a JSON
object: {"posts", "distinct", "connections"}.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

BUSY_S = 0.002


@dataclass
class Counts:
    posts: Counter[bytes] = field(default_factory=Counter)
    connections: int = 0

    def told(self) -> bytes:
        told = {"posts": self.posts.total(), "distinct": len(self.posts), "connections": self.connections}
        return json.dumps(told).encode()


class Serving(asyncio.Protocol):
    def __init__(self, idle_s: float, counts: Counts) -> None:
        self._idle_s, self._counts, self._text = idle_s, counts, b""
        self._closing: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._wait()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            self._closing.cancel()
        self._text += data
        head, end, body = self._text.partition(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), 0)
        if not end or len(body) < length:
            return
        self._text = body[length:]
        self._answer(head.split(b" ", 2)[1], body[:length])
        self._wait()

    def connection_lost(self, _: Exception | None) -> None:
        if self._closing:
            self._closing.cancel()

    def _answer(self, path: bytes, body: bytes) -> None:
        if path == b"/":
            self._counts.posts[body] += 1
            self._counts.connections += self._closing is not None and not hasattr(self, "_counted")
            self._counted = True
        body = self._counts.told() if path == b"/count" else body
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    def _wait(self) -> None:
        self._closing = asyncio.get_running_loop().call_later(self._idle_s, self._close)

    def _close(self) -> None:
        """What comes while it takes its time is never read."""
        time.sleep(BUSY_S)
        self._transport.abort()


async def serve(idle_s: float) -> None:
    counts = Counts()
    server = await asyncio.get_running_loop().create_server(
        lambda: Serving(idle_s, counts), "127.0.0.1", 0, backlog=4096
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def post(port: int, clients: int, waves: int, each: int, idle_s: float) -> list[str]:
    """Have ``clients`` post ``each`` in every wave, every body another one; return what was lost. From one wave to the
    next, all connections to the server are idle, for about as long as it keeps them."""
    lost: list[str] = []
    chance = random.Random(waves)
    pauses = (idle_s * chance.uniform(0.98, 1.08) for _ in range(waves - 1))
    moments = list(itertools.accumulate(pauses, initial=asyncio.get_running_loop().time()))
    await asyncio.gather(*(_client(port, client, moments, each, idle_s, lost) for client in range(clients)))
    return lost


async def _client(port: int, client: int, moments: list[float], each: int, idle_s: float, lost: list[str]) -> None:
    loop, chance = asyncio.get_running_loop(), random.Random(client)
    pair: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    for wave, moment in enumerate(moments):
        await asyncio.sleep(moment + idle_s * chance.uniform(0, 0.02) - loop.time())
        for number in range(each):
            pair = pair or await asyncio.open_connection("127.0.0.1", port)
            body = f"{client}-{wave}-{number}".encode()
            try:
                pair[1].write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                head = await pair[0].readuntil(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 200") or await pair[0].readexactly(len(body)) != body:
                    raise ConnectionError(head.decode(errors="replace").partition("\r\n")[0])
            except (OSError, EOFError) as error:
                lost.append(f"{body.decode()}: {error}")
                pair[1].close()
                pair = None
    if pair is not None:
        pair[1].close()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
