"""The example live: Node behind npm, with events (SSE) and WebSockets, which outlast the traffic's moving."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import load
import pytest
from leftovers import remove_state
from project import Project, free_port, wait_for
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Event, Message, Request, TextMessage

pytestmark = [pytest.mark.root, pytest.mark.long]

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/live"


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Project]:
    shutil.copytree(EXAMPLE, tmp_path / "live", ignore=shutil.ignore_patterns("node_modules"))
    made = Project(folder=tmp_path / "live", home=tmp_path / "home", ports={"dev": free_port()})
    made.edit("127.0.0.1:8091", f"127.0.0.1:{made.ports['dev']}")
    yield made
    made.destroy_all()
    remove_state(made.home)


class Talk:
    """A WebSocket: what is said is answered, one after the other."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._connection = WSConnection(ConnectionType.CLIENT)
        self._events = self._received()
        self._socket.sendall(self._connection.send(Request(host="live.test", target="/talk")))
        assert isinstance(next(self._events, None), AcceptConnection)

    def ask(self, text: str) -> str | None:
        """Return what is answered; None where the talk has ended."""
        with contextlib.suppress(ConnectionError):
            self._socket.sendall(self._connection.send(Message(data=text)))
            event = next(self._events, None)
            return str(event.data) if isinstance(event, TextMessage) else None
        return None

    def close(self) -> None:
        self._socket.close()

    def _received(self) -> Iterator[Event]:
        while data := self._socket.recv(4096):
            self._connection.receive_data(data)
            for event in self._connection.events():
                if isinstance(event, CloseConnection):
                    return
                yield event


class Clients:
    """One that talks and one that listens, each beginning anew where what it has ends. Releases are as they were told,
    a list for each talk and each stream."""

    def __init__(self, live: Project) -> None:
        self.talks: list[list[str]] = []
        self.streams: list[list[str]] = []
        self.trouble: list[str] = []
        self._live = live
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._go_on, args=(job,)) for job in (self._talk, self._listen)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=60)

    def latest(self) -> list[str]:
        """Return the release that each has heard of last."""
        return [release for streams in (self.talks, self.streams) for release in (streams or [[]])[-1][-1:]]

    def _go_on(self, job: object) -> None:
        assert callable(job)
        while not self._over.is_set():
            try:
                job()
            except (OSError, AssertionError) as error:
                self.trouble.append(f"{error!r}")

    def _talk(self) -> None:
        with contextlib.closing(Talk(self._live.ports["dev"])) as talk:
            self.talks.append([])
            while not self._over.wait(0.05) and (answer := talk.ask("hello")) is not None:
                self.talks[-1].append(answer.removeprefix("release ").removesuffix(": hello"))

    def _listen(self) -> None:
        request = urllib.request.Request(self._live.url(path="/events"), headers={"Accept": "text/event-stream"})
        with urllib.request.urlopen(request, timeout=20) as stream:
            self.streams.append([])
            for line in stream:
                if line.startswith(b"data: release "):
                    self.streams[-1].append(line.decode().split()[-1])
                if self._over.is_set():
                    return


def test_streams_outlast_the_moving_and_begin_anew_with_the_next_release(live: Project) -> None:
    live.instar("deploy", "dev", timeout_s=600)
    with Clients(live) as clients, load.running(live.url(path="/"), "--rate", "100", "--connections", "4") as traffic:
        wait_for(lambda: clients.latest() == ["1", "1"], "no stream has begun")
        live.edit("  dev:\n", "  dev:\n    config: {TRY: again}\n")
        deployed = live.json("deploy", "dev")
        assert (deployed["outcome"], deployed["cut"]) == ("done", 2), "the two streams, when their time was over"
        wait_for(lambda: clients.latest() == ["2", "2"], "no stream has begun anew")
        report = traffic.stop()
    assert report["failed"] == 0, report
    assert clients.trouble == [], "none was refused, and none ended before its beginning"
    for streams in (clients.talks, clients.streams):
        assert [set(stream) for stream in streams] == [{"1"}, {"2"}], (
            "each was one release's from its beginning to its end"
        )
    assert live.instar("drift", "dev").status == 0
