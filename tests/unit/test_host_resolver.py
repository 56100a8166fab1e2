"""Which name servers an instance is told of."""

from __future__ import annotations

import socket
import threading
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from instar.host.network import resolver


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_servers_that_can_be_asked_from_inside_are_kept(tmp_path: Path) -> None:
    path = write(
        tmp_path / "resolv.conf",
        "# made by hand\nnameserver 192.0.2.1 ; the first\nnameserver ::1\nnameserver 127.0.0.1\n"
        "search example.org sub.example.org\noptions ndots:2\nsortlist 1\nnameserver 192.0.2.1\nnameserver nonsense\n"
        "nameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n",
    )
    assert resolver.read(path).text() == (
        "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n"
        "search example.org sub.example.org\noptions ndots:2\n"
    )


def test_the_servers_behind_a_local_one_are_taken(tmp_path: Path) -> None:
    stub = write(tmp_path / "stub", "nameserver 127.0.0.53\nsearch one\n")
    behind = write(tmp_path / "behind", "nameserver 192.0.2.9\nsearch two\n")
    assert resolver.of_machine(stub, behind).text() == "nameserver 192.0.2.9\nsearch two\n"
    assert resolver.of_machine(stub, tmp_path / "missing").text() == "search one\n"
    assert resolver.of_machine(tmp_path / "missing", tmp_path / "missing").servers == ()


@pytest.mark.parametrize("code", [0, 3, 5])
def test_a_server_that_says_anything_is_there(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        _redirect(monkeypatch, server.getsockname()[1])

        def answer() -> None:
            question, sender = server.recvfrom(512)
            server.sendto(b"\0\0" + question[2:], sender)  # another's answer
            server.sendto(question[:2] + bytes([0x81, 0x80 | code]) + question[4:], sender)

        thread = threading.Thread(target=answer)
        thread.start()
        assert resolver.answers([IPv4Address("127.0.0.1")], 5)
        thread.join()


def test_a_server_that_says_nothing_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        _redirect(monkeypatch, server.getsockname()[1])
        assert not resolver.answers([IPv4Address("127.0.0.1")], 0.05)
    assert not resolver.answers([], 0.01)


def _redirect(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setattr(resolver, "_PORT", port)
