"""The user's terminal, and what is between it and a program on a terminal of ours: bytes both ways, and its size."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import struct
import termios
import tty
from collections.abc import Callable, Iterator, Mapping

from instar.frozen import dataclass

_PIECE_BYTES = 65_536
_PENDING_BYTES = 65_536
_SIZE = struct.Struct("HHHH")  # rows, columns, and two that nobody fills. Source: ioctl_tty(2)
_USUAL = (80, 24)


@dataclass(frozen=True, kw_only=True, slots=True)
class Terminal:
    """What the user types into and looks at."""

    stdin: int
    stdout: int

    def size(self) -> tuple[int, int]:
        """Return its columns and rows; what is usual where it doesn't say."""
        try:
            columns, rows = os.get_terminal_size(self.stdout)
        except OSError:
            return _USUAL
        return (columns, rows) if columns > 0 and rows > 0 else _USUAL

    @contextlib.contextmanager
    def raw(self) -> Iterator[None]:
        """Hand on every key as it is pressed inside; as it was before, afterwards, whatever happened."""
        before = termios.tcgetattr(self.stdin)
        try:
            tty.setraw(self.stdin)
            yield
        finally:
            with contextlib.suppress(termios.error):  # it is gone
                termios.tcsetattr(self.stdin, termios.TCSADRAIN, before)


def find(stdin: int = 0, stdout: int = 1) -> Terminal | None:
    """Return the user's terminal, None where either end is something else."""
    try:
        return Terminal(stdin=stdin, stdout=stdout) if os.isatty(stdin) and os.isatty(stdout) else None
    except OSError:
        return None


def set_size(descriptor: int, columns: int, rows: int) -> None:
    """Tell a terminal of ours how large it is; who runs on it hears of it."""
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, _SIZE.pack(rows, columns, 0, 0))


def converse(
    terminal: Terminal,
    ours: int,
    *,
    shown: Callable[[bytes], None],
    resized: Callable[[int, int], None],
    ended: int | None = None,
) -> None:
    """Hand on what is typed to ``ours`` and what comes from there to the user, until nobody has its other end, or
    ``ended`` can be read from and nothing more has come.

    Each piece goes to ``shown`` before the user sees it, each new size to ``resized``. In the main thread only. Raises
    OSError when the user's terminal is gone.
    """
    os.set_blocking(ours, False)
    typed = b""
    until = [] if ended is None else [ended]
    with _size_changes() as changes:
        while True:
            reading = [ours, changes, *([terminal.stdin] if len(typed) < _PENDING_BYTES else []), *until]
            readable, writable, _ = select.select(reading, [ours] if typed else [], [])
            if ended in readable and ours not in readable:
                return
            if changes in readable:
                os.read(changes, _PIECE_BYTES)
                columns, rows = terminal.size()
                resized(columns, rows)
                set_size(ours, columns, rows)
            if ours in readable:
                piece = _from_ours(ours)
                if not piece:
                    return
                shown(piece)
                write(terminal.stdout, piece)
            if terminal.stdin in readable:
                typed += _typed(terminal.stdin)
            if typed and ours in writable:
                typed = typed[_to_ours(ours, typed) :]


def relay(ways: Mapping[int, int], shown: Callable[[int, bytes], bytes]) -> None:
    """Hand on what comes from each descriptor to that beside it, until all have ended; ``shown`` has it first, and
    returns what of it is handed on."""
    left = set(ways)
    while left:
        readable, _, _ = select.select(sorted(left), [], [])
        for source in readable:
            piece = os.read(source, _PIECE_BYTES)
            if not piece:
                left.discard(source)
                continue
            write(ways[source], shown(source, piece))


def write(descriptor: int, data: bytes) -> None:
    """Write all of it."""
    while data:
        data = data[os.write(descriptor, data) :]


@contextlib.contextmanager
def _size_changes() -> Iterator[int]:
    """Yield a descriptor that can be read from after the user's terminal has changed its size."""
    heard, told = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = signal.signal(signal.SIGWINCH, lambda number, frame: None)
    wakeup = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    try:
        yield heard
    finally:
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGWINCH, before)
        os.close(heard)
        os.close(told)


def _from_ours(ours: int) -> bytes:
    while True:
        try:
            return os.read(ours, _PIECE_BYTES)
        except BlockingIOError:  # woken up for nothing
            select.select([ours], [], [])
        except OSError:  # EIO: nobody has the other end
            return b""


def _to_ours(ours: int, typed: bytes) -> int:
    try:
        return os.write(ours, typed)
    except BlockingIOError:
        return 0
    except OSError:  # nobody has the other end: reading says so too
        return len(typed)


def _typed(stdin: int) -> bytes:
    piece = os.read(stdin, _PIECE_BYTES)
    if not piece:
        raise OSError(0, "the terminal is gone")
    return piece
