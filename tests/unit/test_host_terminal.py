"""Between the user's terminal and one of ours: every byte, each new size, and the settings as they were."""

from __future__ import annotations

import os
import select
import signal
import termios
import threading
from collections.abc import Iterator

import pytest

from instar.terminal import terminal as terminals
from instar.terminal.terminal import Terminal, converse, find, relay, set_size


class Ends:
    """A terminal with somebody at it (``keys``), and one of ours with a program on it (``program``)."""

    def __init__(self) -> None:
        self.keys, user = os.openpty()
        self.ours, self.program = os.openpty()
        self.terminal = Terminal(stdin=user, stdout=user)

    def close(self) -> None:
        for descriptor in (self.keys, self.terminal.stdin, self.ours, self.program):
            try:
                os.close(descriptor)
            except OSError:
                continue


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.close()


def test_what_is_typed_and_shown_comes_through_and_is_recorded_first(ends: Ends) -> None:
    shown: list[bytes] = []
    sizes: list[tuple[int, int]] = []
    set_size(ends.terminal.stdin, 80, 24)
    before = termios.tcgetattr(ends.terminal.stdin)

    def play() -> None:
        os.write(ends.keys, b"hello\n")
        assert os.read(ends.program, 100) == b"hello\n"
        set_size(ends.terminal.stdin, 100, 50)
        os.kill(os.getpid(), signal.SIGWINCH)
        os.write(ends.program, b"well\n")
        os.close(ends.program)

    player = threading.Thread(target=play)
    with ends.terminal.raw():
        player.start()
        converse(ends.terminal, ends.ours, shown=shown.append, resized=lambda *size: sizes.append(size))
        assert os.get_terminal_size(ends.ours) == (100, 50)
    player.join()
    assert b"well" in b"".join(shown) and sizes == [(100, 50)]
    seen = b""
    while b"well" not in seen:  # the kernel hands it on in its own time
        assert select.select([ends.keys], [], [], 10)[0]
        seen += os.read(ends.keys, 1000)
    assert termios.tcgetattr(ends.terminal.stdin) == before


def test_an_error_while_recording_ends_it_and_restores_the_terminal(ends: Ends) -> None:
    before = termios.tcgetattr(ends.terminal.stdin)
    os.write(ends.program, b"text")

    def fails(piece: bytes) -> None:
        raise RuntimeError("full")

    with pytest.raises(RuntimeError), ends.terminal.raw():
        assert termios.tcgetattr(ends.terminal.stdin) != before
        converse(ends.terminal, ends.ours, shown=fails, resized=lambda *size: None)
    assert termios.tcgetattr(ends.terminal.stdin) == before
    assert signal.getsignal(signal.SIGWINCH) is signal.SIG_DFL


def test_a_terminal_that_goes_away_is_an_error(ends: Ends) -> None:
    os.close(ends.keys)
    with pytest.raises(OSError):
        converse(ends.terminal, ends.ours, shown=lambda piece: None, resized=lambda *size: None)


def test_a_large_paste_waits_for_who_reads_it(ends: Ends) -> None:
    pasted = b"x" * 300_000
    got = bytearray()

    def read() -> None:
        import tty

        tty.setraw(ends.program)
        while len(got) < len(pasted):
            got.extend(os.read(ends.program, 65_536))
        os.close(ends.program)

    import tty

    tty.setraw(ends.program)
    threads = [threading.Thread(target=read), threading.Thread(target=lambda: terminals.write(ends.keys, pasted))]
    with ends.terminal.raw():
        for thread in threads:
            thread.start()
        converse(ends.terminal, ends.ours, shown=lambda piece: None, resized=lambda *size: None)
    for thread in threads:
        thread.join()
    assert bytes(got) == pasted


def test_streams_are_relayed_one_by_one() -> None:
    pipes = [os.pipe() for _ in range(4)]
    (one, one_end), (two, two_end), (to_one, to_one_end), (to_two, to_two_end) = pipes
    os.write(one_end, b"out")
    os.write(two_end, b"err")
    os.close(one_end)
    os.close(two_end)
    shown: dict[int, bytes] = {}

    def show(source: int, piece: bytes) -> bytes:
        shown[source] = piece
        return piece.upper()

    relay({one: to_one_end, two: to_two_end}, show)
    assert shown == {one: b"out", two: b"err"}
    assert (os.read(to_one, 10), os.read(to_two, 10)) == (b"OUT", b"ERR")
    for descriptor in (one, two, to_one, to_one_end, to_two, to_two_end):
        os.close(descriptor)


def test_what_is_no_terminal() -> None:
    reading, writing = os.pipe()
    try:
        assert find(reading, writing) is None
        assert Terminal(stdin=reading, stdout=writing).size() == (80, 24)
    finally:
        os.close(reading)
        os.close(writing)
    assert find(reading, writing) is None
