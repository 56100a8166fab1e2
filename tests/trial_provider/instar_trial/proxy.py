"""proxy.py FILE: hands connections on to the targets that FILE names, by weight, and listens where it says."""

import asyncio
import contextlib
import json
import pathlib
import random
import sys

file = pathlib.Path(sys.argv[1])


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    left = [one for one in json.loads(file.read_text())["targets"].values() if one["weight"]]
    while left:
        chosen = random.choices(left, [one["weight"] for one in left])[0]
        with contextlib.suppress(OSError):
            there, back = await asyncio.open_connection(chosen["address"], chosen["port"])
            await asyncio.gather(pipe(reader, back), pipe(there, writer))
            back.close()
            break
        left.remove(chosen)
    writer.close()


async def main() -> None:
    open_now: dict[str, asyncio.Server] = {}
    while wanted := json.loads(file.read_text())["listen"] if file.exists() else []:
        for address in set(wanted) - open_now.keys():
            open_now[address] = await asyncio.start_server(serve, *address.rsplit(":", 1))
        for address in open_now.keys() - set(wanted):
            open_now.pop(address).close()
        told = file.with_suffix(".new")
        told.write_text(" ".join(sorted(open_now)))
        told.replace(file.with_suffix(".open"))  # whole at every moment that somebody reads it
        await asyncio.sleep(0.02)


asyncio.run(main())
