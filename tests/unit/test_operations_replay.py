"""What replay finds, and what comes of it on a terminal and off one."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from instar.errors import HostError, NotFound, UsageError
from instar.ledger import Ledger
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from instar.model.state import StateDirectory
from instar.operations.recordings import Recording, new_recording, recordings
from instar.operations.replay import Filter, find_recordings, listed, play
from instar.terminal.recording import Header, Recorder
from simulated.values import configuration, image

DEV, LIVE = EnvironmentId(service="web", name="dev"), EnvironmentId(service="web", name="live")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
USUAL = "\x1b[0m\x1b(B\x1b[?25h\x1b[?7h\n"
HEADER = Header(width=80, height=24, timestamp=1, title="web-dev-1-1 by ann: look")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Dev and live with an instance each, of which dev's was opened twice."""
    state = StateDirectory(tmp_path, tmp_path / "run")
    with Ledger(state.ledger, actor="ann") as ledger:
        for environment in (DEV, LIVE):
            ledger.save_settings(environment, Settings())
            ledger.add_release(environment, image("one").digest, configuration())
            ledger.add_instances(environment, 1, 1)
        for minute in (5, 1):
            recorder = Recorder(new_recording(state, "web-dev-1-1", NOON.replace(minute=minute)), HEADER)
            recorder.output(f"minute {minute}".encode())
            recorder.close()
        yield SimpleNamespace(ledger=ledger, state=state)


def test_recordings_are_found_by_instance_environment_and_name(workspace: Any) -> None:
    both, of_environment = find_recordings(workspace, "web-dev-1-1", lambda: None)
    assert [one.at.minute for one in both] == [1, 5] and not of_environment
    assert find_recordings(workspace, "dev", lambda: "web") == (both, True)
    assert find_recordings(workspace, both[0].name, lambda: None) == (both[:1], False)
    (first, _) = listed(both)
    assert first.title == HEADER.title and first.seconds >= 0
    for word, said in (
        ("live", "no shell was opened there"),
        ("web-dev-1-2", "no such environment"),
        ("../x", "no such"),
    ):
        with pytest.raises(NotFound, match=said):
            find_recordings(workspace, word, lambda: "web")


def test_of_files_only_recordings_count(workspace: Any) -> None:
    folder = workspace.state.recordings
    for name in ("notes.txt", "web-dev-1-1.20269901T000000.000000Z.cast", "web.20260101T000000.000000Z.cast"):
        (folder / name).touch()
    assert len(recordings(workspace.state)) == 2 and recordings(workspace.state, {"web-live-1-1"}) == ()
    bad = recordings(workspace.state)[0].path
    bad.write_text("nothing")
    assert [one.title for one in listed(recordings(workspace.state))] == [None, HEADER.title]
    assert recordings(StateDirectory(folder / "none", folder)) == ()


def recorded(path: Path, *lines: str) -> Recording:
    head = '{"version": 2, "width": 80, "height": 24}'
    path.write_text("".join(f"{line}\n" for line in (head, *lines)))
    return Recording(instance="web-dev-1-1", at=NOON, path=path)


def test_the_time_goes_as_it_went_but_no_pause_is_long(tmp_path: Path) -> None:
    lines = ('[1.0, "o", "a"]', '[1.5, "r", "90x20"]', '[61.0, "o", "b\\u001b[0m"]', '[60.0, "o", "c"]')
    shown: list[str | float] = []
    play(recorded(tmp_path / "r", *lines), shown.append, speed=2, pause=shown.append)
    assert shown == [0.5, "a", 1.0, "b\x1b[0m", 0.0, "c", f"\x1b7\x1b[r\x1b8{USUAL}"]
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


def test_the_terminal_is_as_usual_afterwards_whatever_ended_it(tmp_path: Path) -> None:
    lines = ('[1.0, "o", "\\u001b[?1049h\\u001b[?25l\\u001b[2;5rvi\\u001b["]', '[1.0, "o", "31"]', "broken")
    shown: list[str] = []
    with pytest.raises(HostError, match="line 4"):
        play(recorded(tmp_path / "r", *lines), shown.append, speed=1, pause=lambda s: None)
    assert shown[-1] == f"\x1b7\x1b[r\x1b8\x1b[?1049l{USUAL}"
    shown.clear()

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play(recorded(tmp_path / "r", *lines), shown.append, speed=1, pause=interrupted)
    assert shown == [f"\x1b7\x1b[r\x1b8{USUAL}"], "it was not on the other screen: nothing to go back from"


def test_a_terminal_that_is_gone_is_told_once(tmp_path: Path) -> None:
    def show(text: str) -> None:
        raise BrokenPipeError(text)

    with pytest.raises(BrokenPipeError, match=r"^a$"):
        play(recorded(tmp_path / "r", '[1.0, "o", "a"]'), show, speed=1, pause=lambda s: None)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("\x1b[?1049h", "\x1b[?1049l"),
        ("\x1b[?47h", "\x1b[?47l"),
        ("\x1b[?25;1047h", "\x1b[?1047l"),
        ("\x1b[?1049h\x1b[?1049l", ""),
        ("\x1b[?1049h\x1b[?1049", "\x1b[?1049l"),
        ("\x1b[?1048h", ""),
    ],
)
def test_the_screen_that_it_began_on_is_gone_back_to(text: str, left: str) -> None:
    shown = Filter(plain=False)
    shown.feed(text)
    assert shown.end() == f"\x1b7\x1b[r\x1b8{left}{USUAL}"
    assert shown.feed("31m") == "31m", "nothing is held any more"


def filtered(text: str, *, plain: bool, size: int | None = None) -> str:
    """Filter ``text`` in pieces of ``size``."""
    one, size = Filter(plain=plain), size or max(len(text), 1)
    return "".join(one.feed(text[at : at + size]) for at in range(0, len(text), size))


PIECES = (
    "\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b]8;;http://x\x1b\\link\x1b(B\x1bM\x9b5nplain\ta\r\n\x08\x1b[?2004h$ \x1b"
)


def test_text_is_left_of_what_steers_a_terminal_however_it_is_cut() -> None:
    for size in (1, 2, 3, 5, 8, None):
        assert filtered(PIECES, plain=True, size=size) == "red linkplain\ta\n$ ", size


@pytest.mark.parametrize("begun", ["\x1b[1", "\x1b(", "\x1b]0;", "\x1bP", "\x1b_"], ids=repr)
def test_a_sequence_that_never_ends_is_not_kept_for_ever(begun: str) -> None:
    for plain in (True, False):
        one = Filter(plain=plain)
        assert one.feed(begun) == ""
        for _ in range(100):
            assert one.feed(" /#!" * 1000) == ""
        assert len(one._held) < 1000
        assert one.feed("m\x1b\\on\x1b[1m") == ("on" if plain else "on\x1b[1m")


def test_the_longest_sequence_that_is_shown() -> None:
    longest = "\x1b[" + "1;" * 127 + "1m"
    assert filtered(longest, plain=False, size=7) == longest
    assert filtered(longest[:-1] + ";m", plain=False) == "", "one more"


DRAWS = [
    *("\x1b7", "\x1b8", "\x1bD", "\x1bE", "\x1bM", "\x1b(B", "\x1b(0"),
    *("\x1b[m", "\x1b[0m", "\x1b[1;38;2;1;2;3;48;5;7m", "\x1b[4:3m", "\x1b[38:2::255:0:0m", "\x1b[;m"),
    *(f"\x1b[{final}" for final in "ABCDEFGHfdaeJKXLMP@STrsub"),
    *(f"\x1b[12{final}" for final in "ABCDEFGdaeKXLMP@STb"),
    *("\x1b[2J", "\x1b[12;40H", "\x1b[;4H", "\x1b[1;1f", "\x1b[2;24r", "\x1b[999;999H"),
    *(f"\x1b[?{mode}{final}" for mode in (7, 25, 47, 1047, 1048, 1049) for final in "hl"),
    *("text", "\t", "\r\n", "\b", "☺ é 漢\xa0"),
]


@pytest.mark.parametrize("text", DRAWS, ids=repr)
def test_what_only_draws_comes_as_it_is(text: str) -> None:
    for size in (None, 1):
        assert filtered(f"a{text}b", plain=False, size=size) == f"a{text}b"


ANSWERED = [
    *("\x1b[6n", "\x1b[?6n", "\x1b[5n", "\x1b[c", "\x1b[>c", "\x1b[>0c", "\x1b[=c", "\x1bZ", "\x05"),
    *("\x1b[?1$p", "\x1b[1$p", "\x1b[>q", "\x1b[>0q", "\x1b[?u", "\x1b[>1u", "\x1b[=1u", "\x1b[<u", "\x1b[1u"),
    *("\x1b[1$w", "\x1b[2$w", "\x1b[1;1;1;1;1;1*y", "\x1b[0x", "\x1b[21t", "\x1b[18t", "\x1b[>t", "\x1b[?1;1;0S"),
    *("\x1bP$qm\x1b\\", "\x1bP+q544e\x1b\\", "\x1b]10;?\x07", "\x1b]11;?\x1b\\", "\x1b]4;1;?\x9c", "\x1b]52;c;?\x07"),
    *("\x1b_Gi=1,a=q;AAAA\x1b\\", "\x1b[?m", "\x1b[?4m", "\x1b['|", "\x1b[1'z", "\x1b[#S", "\x1b[?996n"),
]
TYPES = [f"\x1b[?{mode}h" for mode in (1, 9, 66, 67, 69, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 2004)]
TYPES += ["\x1b=", "\x1b>", "\x1b[20h", "\x1b[>4;2m", "\x1b[?2048h", "\x1b[1;1;1;1;1T"]
LASTS = [
    *("\x1b]0;title\x07", "\x1b]2;title\x1b\\", "\x1b]52;c;eA==\x07", "\x1b]52;c;eA==\x9c", "\x1b]8;;http://x\x1b\\"),
    *("\x1bXsos\x1b\\", "\x1b^pm\x1b\\", "\x1b_apc\x9c", "\x1b]\x07", "\x1b]777;notify;a;b\x07", "\x1bP1$r\x1b\\"),
    *(
        "\x1b[5i",
        "\x1b[4i",
        "\x1b[?5i",
        "\x1bc",
        "\x1b[!p",
        "\x1b[2 q",
        "\x1bH",
        "\x1b[3g",
        "\x1b#8",
        "\x1b%G",
        "\x1b G",
    ),
    *("\x1b[4h", "\x1b[?5h", "\x1b[?6h", "\x1b[?3h", "\x1b[?2026h", "\x1b[3J", "\x1b[1;2s", "\x1b[?1049s", "\x1b[?1r"),
    *(
        "\x1b(A",
        "\x1b)0",
        "\x1b*0",
        "\x1b-A",
        "\x1bn",
        "\x1b~",
        "\x1b\\",
        "\x1b[1 @",
        "\x1b[99999999A",
        "\x1b[1;2;3;4H",
    ),
    *("\x07", "\x00", "\x0e", "\x0f", "\x0b", "\x0c", "\x18", "\x1a", "\x7f", "\x84", "\x85", "\x8d", "\x9a", "\x9c"),
]


@pytest.mark.parametrize("text", [*ANSWERED, *TYPES, *LASTS], ids=repr)
def test_what_does_more_does_not_come(text: str) -> None:
    for size in (None, 1, 2):
        for plain in (True, False):
            assert filtered(f"a{text}b", plain=plain, size=size) == "ab"
    eight = re.sub(r"\x1b([\[\]PX^_\\])", lambda found: chr(ord(found[1]) + 0x40), text)
    assert filtered(f"a{eight}b", plain=False) == "ab"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("\x1b\x1b[6n[6n", "[6n"),
        ("\x1b\x1b]52;c;eA==\x07]52;c;UU==\x07", "]52;c;UU=="),
        ("\x1b[\x1b[6n6n", "6n"),
        ("\x1b[6\rn", "\rn"),
        ("\x1b\r[6n", "\r[6n"),
        ("\x1b[6\x00n\x1b[6\x7fn\x1b[6\x18n", "nnn"),
        ("\x1b[6én", "én"),
        ("\x1b[6\x85n", "n"),
        ("\x1b]0;a\x1b[31mred", "\x1b[31mred"),
        ("\x1b]0;a\nb\rc\x07d", "d"),
        ("\x1b]0;a\x18b\x1bPa\x1ac", "bc"),
        ("\x1bPa\x07b\x1b\\c", "c"),
        ("\x9b31mred\x9d0;title\x9cx", "\x1b[31mredx"),
        ("\x1b]0;a\x9b6nb\x1b]0;\x9d1;x\x07c", "bc"),
        ("\x1b[31\x9b1mx", "\x1b[1mx"),
        ("\x1b[?25;1000lx\x1b[?1000;1006h\x1b[?;7h", "\x1b[?25lx\x1b[?7h"),
        ("\x1b(\x1b(0q\x1b([6n", "\x1b(0q6n"),
        ("\x1b[1?25h\x1b[?1?25h\x1b[31 m\x1b[ 31mx", "x"),
        ("\x1b[\u0663mx\x1b[?\u06625hy", "\u0663mx\u06625hy"),
    ],
    ids=repr,
)
def test_sequences_inside_sequences(text: str, wanted: str) -> None:
    for size in (None, 1, 2, 3):
        assert filtered(text, plain=False, size=size) == wanted


FRAGMENTS = [
    *("\x1b", "\x1b[", "\x1b]", "\x1bP", "\x1b_", "\x1b^", "\x1bX", "\x1b(", "\x1b#", "\x1b\\", "\x9b", "\x9d", "\x90"),
    *("\x98", "\x9c", "\x9e", "\x9f", "\x84", "\x85", "\x07", "\x18", "\x1a", "\x00", "\x7f", "\r", "\n", "\b", "\x05"),
    *"[]()?>=<!$'*# \"/\\:;0123456789@ABHJKPSTXZabcdefghlmnpqrstuwxyz|~", *("52;c;UU==", "6n", "?1$p", "?1049h", "31m"),
    *("?25;1000l", "1049", "11111111", "text", "é", "\u2028", "\ud800"), *DRAWS, *ANSWERED, *TYPES, *LASTS,
]  # fmt: skip
ALLOWED = re.compile(
    r"\x1b(?:[78DEM]|\([B0]|\[[0-9;:]*[@A-HJKLMPSTXabdefmr]|\[[su]"
    r"|\[\?(?:7|25|47|1047|1048|1049)(?:;(?:7|25|47|1047|1048|1049))*[hl])"
)
nasty = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=3), max_size=30).map("".join)


@given(text=nasty, cuts=st.lists(st.integers(min_value=1, max_value=7), min_size=1, max_size=5), plain=st.booleans())
@example(text="\x1b\x1b[6n[6n", cuts=[1], plain=False)
def test_whatever_comes_only_what_draws_is_left_however_it_is_cut(text: str, cuts: list[int], plain: bool) -> None:
    whole = filtered(text, plain=plain)
    assert not re.search(r"[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f]", whole if plain else ALLOWED.sub("", whole))
    one, shown, at, number = Filter(plain=plain), "", 0, 0
    while at < len(text):
        size = cuts[number % len(cuts)]
        shown += one.feed(text[at : at + size])
        at, number = at + size, number + 1
    assert shown == whole
    assert filtered(whole, plain=plain) == whole, "there is nothing left to take out"


@given(text=st.text(alphabet=st.characters(min_codepoint=0xA0), max_size=50))
def test_text_comes_as_it_is(text: str) -> None:
    assert filtered(text, plain=False) == filtered(text, plain=True) == text


def test_many_beginnings_take_no_time() -> None:
    hostile = "\x1b]" * 100_000 + "\x1b[" * 100_000
    for plain in (True, False):
        assert filtered(hostile, plain=plain) == ""
