"""What a shell in an instance reads and prints: by the user's terminal, or past it, and recorded before it is seen."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import IO

from instar.providers.base import Shell, Streams
from instar.terminal import terminal as terminals
from instar.terminal.filter import ByteFilter
from instar.terminal.recording import Recorder
from instar.terminal.terminal import Terminal


def on_terminal(way: Shell, terminal: Terminal, recorder: Recorder, *, term: str) -> None:
    """Have a shell on a terminal of ours, and the user's, which is a ``term``, beside it."""
    ours, theirs = os.openpty()
    try:
        try:
            terminals.set_size(ours, *terminal.size())
            streams = Streams(stdin=theirs, stdout=theirs, stderr=theirs)
            way.begin(None, streams, term=term)
        finally:
            os.close(theirs)
        with terminal.raw():
            terminals.converse(
                terminal,
                ours,
                shown=recorder.output,
                resized=recorder.resize,
                ended=way.ended(),
            )
    finally:
        os.close(ours)


def through_pipes(way: Shell, command: str | None, recorder: Recorder, *, term: str) -> None:
    """Have a command that reads nothing; what it prints goes where this process prints, each stream to its own.

    Into a file or a pipe as it is; to a terminal, which what is printed could steer, only what draws.
    """
    with contextlib.ExitStack() as opened:
        nothing = opened.enter_context(Path(os.devnull).open("rb"))
        (out, out_end), (err, err_end) = (_pipe(opened) for _ in range(2))
        streams = Streams(stdin=nothing.fileno(), stdout=out_end.fileno(), stderr=err_end.fileno())
        way.begin(command, streams, term=term)
        out_end.close()
        err_end.close()
        ways = {out.fileno(): 1, err.fileno(): 2}
        filters = {source: ByteFilter() for source, target in ways.items() if os.isatty(target)}

        def shown(source: int, piece: bytes) -> bytes:
            recorder.output(piece, stream=str(source), cooked=False)
            return filters[source].feed(piece) if source in filters else piece

        try:
            terminals.relay(ways, shown)
        finally:
            for source, one in filters.items():
                with contextlib.suppress(OSError):  # the terminal is gone
                    terminals.write(ways[source], one.end())


def _pipe(opened: contextlib.ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    reading, writing = os.pipe()
    return (
        opened.enter_context(os.fdopen(reading, "rb", buffering=0)),
        opened.enter_context(os.fdopen(writing, "wb", buffering=0)),
    )
