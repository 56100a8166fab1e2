"""What replay finds, and what comes of it on a terminal and off one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import IPv4Network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from instar.errors import HostError, NotFound, UsageError
from instar.host.recording import Header, Recorder
from instar.ledger import Ledger
from instar.model.release import Place, Settings
from instar.model.state import StateDirectory
from instar.operations import replay as operation
from instar.operations.recordings import Recording, new_recording, recordings
from instar.operations.replay import Filter, find_recordings, listed, play
from simulated.values import configuration, image

DEV, LIVE = Place(service="web", environment="dev"), Place(service="web", environment="live")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HEADER = Header(width=80, height=24, timestamp=1, title="web-dev-1-1 by ann: look")


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Dev and live with an instance each, of which dev's was opened twice."""
    monkeypatch.setattr(operation, "require_root", lambda verb, why: None)
    state = StateDirectory(tmp_path, tmp_path / "run")
    with Ledger(state.ledger, actor="ann") as ledger:
        for place in (DEV, LIVE):
            ledger.save_settings(place, Settings())
            ledger.add_release(place, image("one").digest, configuration())
            ledger.add_instances(place, 1, 1, IPv4Network("10.9.0.0/24"))
        for minute in (5, 1):
            recorder = Recorder(new_recording(state, "web-dev-1-1", NOON.replace(minute=minute)), HEADER)
            recorder.output(f"minute {minute}".encode())
            recorder.close()
        yield SimpleNamespace(ledger=ledger, state=state)


def test_recordings_are_found_by_instance_environment_and_name(parts: Any) -> None:
    both, of_environment = find_recordings(parts, "web-dev-1-1", None)
    assert [one.at.minute for one in both] == [1, 5] and not of_environment
    assert find_recordings(parts, "dev", "web") == (both, True)
    assert find_recordings(parts, both[0].name, None) == (both[:1], False)
    (first, _) = listed(both)
    assert first.header == HEADER and first.seconds >= 0
    for word, said in (
        ("live", "no shell was opened there"),
        ("web-dev-1-2", "no such environment"),
        ("../x", "no such"),
    ):
        with pytest.raises(NotFound, match=said):
            find_recordings(parts, word, "web")


def test_of_files_only_recordings_count(parts: Any) -> None:
    folder = parts.state.recordings
    for name in ("notes.txt", "web-dev-1-1.20269901T000000.000000Z.cast", "web.20260101T000000.000000Z.cast"):
        (folder / name).touch()
    assert len(recordings(parts.state)) == 2 and recordings(parts.state, {"web-live-1-1"}) == ()
    bad = recordings(parts.state)[0].path
    bad.write_text("nothing")
    assert [one.header for one in listed(recordings(parts.state))] == [None, HEADER]
    assert recordings(StateDirectory(folder / "none", folder)) == ()


def recorded(path: Path, *lines: str) -> Recording:
    head = '{"version": 2, "width": 80, "height": 24}'
    path.write_text("".join(f"{line}\n" for line in (head, *lines)))
    return Recording(instance="web-dev-1-1", at=NOON, path=path)


def test_the_time_goes_as_it_went_but_no_pause_is_long(tmp_path: Path) -> None:
    lines = ('[1.0, "o", "a"]', '[1.5, "r", "90x20"]', '[61.0, "o", "b\\u001b[0m"]', '[60.0, "o", "c"]')
    shown: list[str | float] = []
    play(recorded(tmp_path / "r", *lines), shown.append, speed=2, pause=shown.append)
    assert shown == [0.5, "a", 1.0, "b\x1b[0m", 0.0, "c"]
    shown.clear()
    play(recorded(tmp_path / "r", *lines), shown.append, speed=None, pause=shown.append)
    assert "".join(str(one) for one in shown) == "abc"


@pytest.mark.parametrize("speed", [0, -1, math.nan, math.inf])
def test_a_speed_is_a_number_above_0(tmp_path: Path, speed: float) -> None:
    with pytest.raises(UsageError, match="at that speed"):
        play(recorded(tmp_path / "r"), print, speed=speed)


def test_a_damaged_one_is_played_up_to_there(tmp_path: Path) -> None:
    shown: list[str] = []
    with pytest.raises(HostError, match="line 3"):
        play(recorded(tmp_path / "r", '[1, "o", "a"]', "broken", '[2, "o", "b"]'), shown.append, speed=None)
    assert shown == ["a"]


PIECES = (
    "\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b]8;;http://x\x1b\\link\x1b(B\x1bM\x9b5nplain\ta\r\n\x08\x1b[?2004h$ \x1b"
)


def test_text_is_left_of_what_steers_a_terminal_however_it_is_cut() -> None:
    wanted = "red linkplain\ta\n$ "
    for size in (1, 2, 3, 5, 8, len(PIECES)):
        plain = Filter(plain=True)
        pieces = [PIECES[at : at + size] for at in range(0, len(PIECES), size)]
        assert "".join(plain.feed(piece) for piece in pieces) == wanted, size


def test_a_sequence_that_never_ends_is_not_kept_for_ever() -> None:
    plain = Filter(plain=True)
    shown = "".join(plain.feed("\x1b]0;" + "x" * 3000 if not number else "x" * 3000) for number in range(4))
    assert len(shown) > 5000 and "\x1b" not in shown


def test_a_terminal_is_not_asked_what_it_would_answer_nor_given_a_title_or_a_clipboard() -> None:
    asked = "\x1b[6n\x1b[c\x1b[>0c\x1b[21t\x1bP$qm\x1b\\\x1bZ\x05"
    text = f"\x1b[1m$ {asked}\x1b]0;title\x07\x1b]52;c;eA==\x1b\\\x9d52;c;eA==\x9c\x1b]cut\x1b[2Jls\r\n\x07\x1b(B"
    for size in (1, 2, 3, 7, len(text)):
        shown = Filter(plain=False)
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        assert "".join(shown.feed(piece) for piece in pieces) == "\x1b[1m$ \x1b[2Jls\r\n\x07\x1b(B", size


def test_a_terminal_is_not_given_a_string_that_is_too_long_to_be_held_either() -> None:
    shown = Filter(plain=False)
    pieces = ["\x1b]52;c;", *(["eA" * 1000] * 4), "\x07"]
    assert "\x1b" not in "".join(shown.feed(piece) for piece in pieces)


def test_many_beginnings_take_no_time() -> None:
    hostile = "\x1b]" * 100_000 + "\x1b[" * 100_000
    for plain in (True, False):
        assert len(Filter(plain=plain).feed(hostile)) <= len(hostile)
