"""A node of scripts/cluster ends a part of its own: what is said to be gone is gone, with all that it held."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from clusters import parts
from clusters.box import Box
from clusters.layout import layout

# A process with much memory ends slowly: its command line is gone first, then its memory, and its sockets last.
LISTENS = """\
import signal, socket, sys
{stubborn}
memory = bytearray(b"x") * (300 << 20)
door = socket.create_server(("127.0.0.1", 0))
print(door.getsockname()[1], flush=True)
signal.pause()
signal.pause()
"""


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> Box:
    monkeypatch.setattr(parts, "program", lambda node, part: sys.executable)
    return Box(node=layout({}).control)


@pytest.fixture(params=["", "signal.signal(signal.SIGTERM, lambda *_: None)"], ids=["obedient", "stubborn"])
def listening(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A part of the box that listens, and where."""
    code = LISTENS.format(stubborn=request.param)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        monkeypatch.setattr(Box, "_processes", lambda self: iter([child.pid]))
        monkeypatch.setattr("clusters.box._ENDS_S", 2.0)
        yield int(child.stdout.readline())
        child.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_where_a_part_listened_the_next_one_can_listen_at_once(
    box: Box, listening: int, number: signal.Signals
) -> None:
    assert box.find("etcd")
    box.end("etcd", number)
    socket.create_server(("127.0.0.1", listening)).close()
    assert box.find("etcd") == []
    box.end("etcd", number)
