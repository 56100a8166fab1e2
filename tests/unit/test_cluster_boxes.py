"""A node of scripts/cluster ends a part of its own: what is said to be gone is gone, with all that it held."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest
from clusters import parts
from clusters.box import Box, _let_go
from clusters.layout import Unusable, layout

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


class Mounts:
    """The machine's mounts in a node: what is let go of is gone, but for what is held."""

    def __init__(self, *points: str, held: str = "") -> None:
        self.points = list(points)
        self.held = held

    def foreign(self, mountinfo: str, kept: Sequence[str]) -> list[str]:
        return list(self.points)

    def umount(self, argv: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert "umount" in argv
        self.points = [one for one in self.points if one == self.held]
        return subprocess.CompletedProcess(argv, 32, "", "umount: /run/other: no mount point specified.")


def test_a_mount_that_goes_by_itself_is_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = Mounts("/run/other/users", "/run/other")
    monkeypatch.setattr("clusters.box._foreign", mounts.foreign)
    monkeypatch.setattr(subprocess, "run", mounts.umount)
    _let_go(os.getpid(), [])
    assert mounts.points == []


def test_a_mount_that_stays_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = Mounts("/run/other/users", "/run/other", held="/run/other")
    monkeypatch.setattr("clusters.box._foreign", mounts.foreign)
    monkeypatch.setattr(subprocess, "run", mounts.umount)
    with pytest.raises(Unusable, match="no mount point specified"):
        _let_go(os.getpid(), [])
