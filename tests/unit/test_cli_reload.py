"""What signals an agent takes while it is to be started again: whoever ends it has it end."""

from __future__ import annotations

import functools
import io
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.cli.agent import _next_listening
from instar.cli.reload import Reload, handed_on, hold_back
from instar.errors import HostError
from instar.model.machine import AgentSettings, MachineSettings
from instar.telemetry.log import Log
from instar.telemetry.server import MetricsServer, listen_at

_SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)


class Asked:
    """A reload, how often it has told the agent to stop, and what it said."""

    def __init__(self, home: Path) -> None:
        self.stops, self.log = 0, io.StringIO()
        environ, log = {"INSTAR_HOME": str(home)}, Log("text", self.log, stamped=False)
        self.reload = Reload(environ, log, self._stop, functools.partial(_next_listening, None, None))
        self.reload.install()

    def _stop(self) -> None:
        self.stops += 1


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    tmp_path.chmod(0o700)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
    yield Asked(tmp_path)
    for number, handler in before.items():
        signal.signal(number, handler)


def test_it_is_started_again_where_that_is_asked_for(asked: Asked) -> None:
    asked.reload.look()
    assert (asked.reload.accepted, asked.stops) == (False, 0)
    signal.raise_signal(signal.SIGHUP)
    asked.reload.look()
    assert (asked.reload.accepted, asked.stops) == (True, 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_that_is_ended_is_not_started_again(asked: Asked, number: signal.Signals) -> None:
    signal.raise_signal(signal.SIGHUP)
    asked.reload.look()
    signal.raise_signal(number)
    assert (asked.reload.accepted, asked.stops) == (False, 2)
    signal.raise_signal(signal.SIGHUP)
    asked.reload.look()
    assert (asked.reload.accepted, asked.stops) == (False, 2)


def test_one_whose_metrics_could_not_be_served_goes_on(asked: Asked, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (tmp_path / "config.yaml").write_text(f"agent: {{metrics: '127.0.0.1:{taken.getsockname()[1]}'}}\n")
        signal.raise_signal(signal.SIGHUP)
        asked.reload.look()
    assert (asked.reload.accepted, asked.stops) == (False, 0)
    assert "it goes on as before: cannot serve metrics on" in asked.log.getvalue()
    signal.raise_signal(signal.SIGHUP)
    asked.reload.look()
    assert (asked.reload.accepted, asked.stops) == (True, 1)


def test_one_whose_ledger_is_gone_goes_on(asked: Asked, tmp_path: Path) -> None:
    (tmp_path / "id").write_text("abcdef\n")
    signal.raise_signal(signal.SIGHUP)
    asked.reload.look()
    assert (asked.reload.accepted, asked.stops) == (False, 0)
    assert "it goes on as before: cannot find the ledger" in asked.log.getvalue()


def test_a_signal_waits_for_who_takes_it(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    signal.signal(signal.SIGHUP, lambda *_: pytest.fail("it would have ended the agent"))
    hold_back()
    signal.raise_signal(signal.SIGHUP)
    asked.reload.install()
    asked.reload.look()
    assert (asked.reload.accepted, asked.stops) == (True, 1)


def at(port: int) -> MachineSettings:
    return MachineSettings(agent=AgentSettings(metrics=f"127.0.0.1:{port}"))


def test_the_socket_for_metrics_is_handed_on() -> None:
    server = MetricsServer(listen_at("127.0.0.1", 0), lambda: b"")
    found = _next_listening(server, None, at(server.port))
    assert found is not None
    server.close()
    environ = {"INSTAR_AGENT_LISTENS": str(found.detach())}
    with pytest.raises(HostError):
        listen_at("127.0.0.1", server.port)
    again = handed_on(environ, "127.0.0.1", server.port)
    assert again is not None and again.getsockname() == ("127.0.0.1", server.port) and environ == {}
    assert handed_on({"INSTAR_AGENT_LISTENS": str(again.detach())}, "127.0.0.1", 1) is None
    listen_at("127.0.0.1", server.port).close()


@pytest.mark.parametrize("word", ["", "x", "-1", "99999"])
def test_what_was_not_handed_on_is_not_taken(word: str) -> None:
    assert handed_on({"INSTAR_AGENT_LISTENS": word}, "127.0.0.1", 1) is None


def test_only_its_own_server_may_be_in_its_way() -> None:
    server = MetricsServer(listen_at("127.0.0.1", 0), lambda: b"")
    try:
        everywhere = MachineSettings(agent=AgentSettings(metrics=f"0.0.0.0:{server.port}"))
        assert _next_listening(server, None, everywhere) is None
        assert _next_listening(server, None, None) is None
        with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(HostError):
            _next_listening(server, f"127.0.0.1:{taken.getsockname()[1]}", None)
    finally:
        server.close()
