"""What the load generator writes down of a request that failed: when, on which connection, and what the answer said."""

from __future__ import annotations

import asyncio
from typing import Any

import load

WHY = "upstream connect error: connection termination"
WELL = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 503 Oops\r\nserver: envoy\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"


def report(*answers: bytes) -> dict[str, Any]:
    """Ask a server that gives these answers, one after the other, and the last one for ever."""
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            while await reader.readline() != b"\r\n":
                pass
            writer.write(left.pop(0) if len(left) > 1 else left[0])
        writer.close()

    async def run() -> dict[str, Any]:
        async with await asyncio.start_server(serve, "127.0.0.1") as server:
            port = server.sockets[0].getsockname()[1]
            asked = [f"http://127.0.0.1:{port}/", "--seconds", "0.3", "--connections", "1", "--closing", "0"]
            return await load.run(load.parse([*asked, "--rate", "100"]))

    return asyncio.run(run())


def test_an_answer_of_a_gateways_own_is_kept_with_its_words() -> None:
    told = report(WELL, CHUNKED % (len(WHY), WHY.encode()), WELL)
    (failure,) = told["first_failures"]
    assert told["failed"] == 1 and told["served"] > 1
    assert failure["reason"] == "503" and failure["body"] == WHY and failure["headers"]["server"] == "envoy"
    assert failure["closes"] is False and failure["at"].endswith("+00:00")


def test_a_long_answer_is_kept_by_its_beginning() -> None:
    told = report(b"HTTP/1.1 500 Oops\r\ncontent-length: 5000\r\n\r\n" + b"x" * 5000, WELL)
    assert told["first_failures"][0]["body"] == "x" * load.KEPT_BODY
