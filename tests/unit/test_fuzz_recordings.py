"""Chance at recordings: whatever a file of one holds, it is read to an end, told for what it is, and steers nothing."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from instar.errors import InstarError
from instar.model.state import StateDirectory
from instar.operations.recordings import Recording, recordings
from instar.operations.replay import listed, play
from instar.terminal.filter import ByteFilter
from instar.terminal.recording import Header, Recorder, last_event_s, read_events, read_header

AT = datetime(2026, 1, 1, tzinfo=UTC)
COUNTS = [300, pytest.param(20_000, marks=pytest.mark.long)]
PIECES = (
    b"\x1b]0;title\x07", b"\x1b[6n", b"\x1bP$q\x1b\\", b"\x1b[31m", b"\x1b[?1049h", b"\x1b", b"\x9b5n", b"\x07",
    b"\x00",
    b"\xff\xfe", b"\xed\xa0\x80", b'\\u001b]52;c;eA==\\u0007', b'\\ud800', b"[[[[", b"]]]]", b"{", b"}", b'"', b"\n",
    b"\r\n", b"1e999", b"NaN", b"Infinity", b"-1", b"9" * 400, b"null", b'[1.0, "o", "x"]\n', b'[1.0, "r", "9x9"]\n',
    b'[1.0, "o", 7]\n', b'["o"]\n', b"[" * 3000, b'{"version": 2}\n', b'"version": 3', b"\xe2\x80\xae",
)  # fmt: skip


def recorded(path: Path) -> bytes:
    """Record a little, and return the file's bytes."""
    path.unlink(missing_ok=True)
    recorder = Recorder(path, Header(width=80, height=24, timestamp=1, title="web-dev-1-1 by ann: x", term="xterm"))
    recorder.output(b"$ ls\r\n\x1b[1;34mbin\x1b[0m  etc\r\n")
    recorder.resize(100, 40)
    recorder.output(b"$ exit\r\n")
    recorder.close()
    return path.read_bytes()


def changed(chance: random.Random, data: bytes) -> bytes:
    """Return ``data`` with a few things done to it: pieces put in, doubled, cut out, a bit flipped, the end cut off."""
    for _ in range(chance.randint(1, 6)):
        at, to = sorted(chance.randrange(len(data) + 1) for _ in range(2))
        data = chance.choice(
            (
                data[:at] + chance.choice(PIECES) + data[at:],
                data[:at] + data[to:],
                data[:to] + data[at:to] + data[to:],
                data[:at],
                bytes([*data[:at], *(byte ^ 1 << chance.randrange(8) for byte in data[at : at + 1]), *data[at + 1 :]]),
                chance.choice(PIECES) + data,
            )
        )
    return data


def shown_of(path: Path, *, speed: float | None) -> str:
    """Play it; return what came before it ended, or was told to be damaged."""
    shown: list[str] = []
    recording = Recording(instance="web-dev-1-1", at=AT, path=path)
    try:
        play(recording, shown.append, speed=speed, pause=lambda seconds: None)
    except InstarError as error:
        assert error.message and "\x1b" not in error.message
    return "".join(shown)


def steering(text: str) -> Iterator[str]:
    """Yield what of a text a terminal would answer to, or keep: strings, requests, the mouse, a bell."""
    for sign in (
        "\x1b]",
        "\x1bP",
        "\x1b_",
        "\x1b^",
        "\x07",
        "\x9b",
        "\x9d",
        "\x1b[6n",
        "\x1b[c",
        "\x1b[?1000",
        "\x1b[5n",
    ):
        if sign in text:
            yield sign


@pytest.mark.parametrize("count", COUNTS)
def test_whatever_a_recording_holds(tmp_path: Path, count: int) -> None:
    chance, path = random.Random(20_261_128), tmp_path / "web-dev-1-1.20260101T000000.000000Z.cast"
    whole = recorded(path)
    for _ in range(count):
        path.write_bytes(changed(chance, whole))
        for read in (read_header, last_event_s, lambda path: list(read_events(path))):
            try:
                read(path)
            except InstarError as error:
                assert str(path) in error.message
        assert not list(steering(shown_of(path, speed=1000.0)))
        assert "\x1b" not in shown_of(path, speed=None)


@pytest.mark.parametrize("count", COUNTS)
def test_whatever_a_command_prints(count: int) -> None:
    chance = random.Random(20_261_129)
    for _ in range(count):
        one = ByteFilter()
        pieces = [changed(chance, b"\x1b[1mls\x1b[0m\r\n") for _ in range(chance.randint(1, 5))]
        shown = b"".join([*map(one.feed, pieces), one.end()]).decode()
        assert not list(steering(shown)), pieces


def test_a_folder_of_damaged_ones_is_listed(tmp_path: Path) -> None:
    state = StateDirectory.from_environment({"INSTAR_HOME": str(tmp_path)})
    chance = random.Random(7)
    whole = recorded(state.recordings / "web-dev-1-1.20260101T000000.000000Z.cast")
    for number in range(20):
        path = state.recordings / f"web-dev-1-{number}.20260101T0000{number:02}.000001Z.cast"
        path.write_bytes(changed(chance, whole))
    found = list(listed(recordings(state)))
    assert len(found) == 21 and found[0].title is not None
    assert all(json.dumps(one.seconds) for one in found)
