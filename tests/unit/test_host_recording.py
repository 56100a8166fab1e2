"""Recordings: on the disk as they go, and read as far as they go."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from pathlib import Path

import pytest

from instar.errors import HostError
from instar.terminal import recording
from instar.terminal.recording import Header, RecordedEvent, Recorder, last_event_s, read_events, read_header

HEADER = Header(width=90, height=30, timestamp=1_700_000_000, title="web-1 by ann: look", term="xterm", command=None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recordings" / "one.cast"


def test_a_recording_is_there_before_anything_is_shown(path: Path) -> None:
    recorder = Recorder(path, HEADER)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    written = json.loads(path.read_text())
    assert (written["version"], written["width"], written["height"]) == (2, 90, 30)
    assert (written["timestamp"], written["env"]["TERM"]) == (1_700_000_000, "xterm")
    assert read_header(path) == HEADER and last_event_s(path) == 0
    with pytest.raises(HostError, match="File exists"):
        Recorder(path, HEADER)
    recorder.discard()
    recorder.close()
    assert not path.exists()


def test_every_event_is_in_the_file_at_once_and_characters_stay_whole(path: Path) -> None:
    recorder = Recorder(path, HEADER)
    smile = "☺".encode()
    recorder.output(b"a\n" + smile[:1])
    recorder.output(b"x\n", stream="err", cooked=False)
    recorder.output(smile[1:] + b"\xff\x1b[0m")
    recorder.resize(120, 40)
    events = list(read_events(path))
    assert [(one.kind, one.text) for one in events] == [
        ("o", "a\n"),
        ("o", "x\r\n"),
        ("o", "☺\ufffd\x1b[0m"),
        ("r", "120x40"),
    ]
    times = [one.at_s for one in events]
    assert times == sorted(times) and last_event_s(path) == times[-1]
    recorder.close()


def test_one_that_was_cut_off_is_read_up_to_there(path: Path) -> None:
    Recorder(path, HEADER).close()
    with path.open("a") as file:
        file.write('[0.5, "o", "whole"]\n[1.5, "o", "cut')
    assert list(read_events(path)) == [RecordedEvent(at_s=0.5, kind="o", text="whole")]
    assert last_event_s(path) == 0.5


@pytest.mark.parametrize(
    "line", ["{}", "[1]", '[-1, "o", "x"]', '["a", "o", "x"]', '[NaN, "o", "x"]', '[1, "o", 2]', ""]
)
def test_a_damaged_line_is_an_error_after_what_came_before(path: Path, line: str) -> None:
    Recorder(path, HEADER).close()
    with path.open("a") as file:
        file.write(f'[0.5, "o", "whole"]\n{line}\n[1.5, "o", "more"]\n')
    found = read_events(path)
    assert next(found).text == "whole"
    with pytest.raises(HostError, match="line 3 is not an event"):
        next(found)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "no json\n",
        "[]\n",
        "3\n",
        '{"version": 1, "width": 1, "height": 1}\n',
        "{}\n",
        '{"version": 2, "width": 1, "height": 1}',
    ],
)
def test_what_is_no_recording(path: Path, line: str) -> None:
    path.parent.mkdir()
    path.write_text(line)
    with pytest.raises(HostError, match="does not begin as a recording does"):
        read_header(path)
    with pytest.raises(HostError, match="No such file"):
        read_header(path.with_name("other"))


def test_it_does_not_grow_for_ever(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "LIMIT_BYTES", 400)
    recorder = Recorder(path, HEADER)
    with pytest.raises(HostError, match="cannot record any more"):
        for _ in range(100):
            recorder.output(b"again and again")
    recorder.close()


def test_a_disk_without_room_is_said_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match=r"Not a directory|File exists") as caught:
        Recorder(tmp_path / "file" / "one.cast", HEADER)
    assert "no shell without a record" in caught.value.message and "df -h" in (caught.value.hint or "")


def test_an_argument_that_is_not_utf_8_is_written_with_escapes(path: Path) -> None:
    words = {"title": "web-1 by ann: caf\udce9", "command": "echo '\udcff' \ud800 é", "term": "x\udc80"}
    Recorder(path, dataclasses.replace(HEADER, **words)).close()
    found = read_header(path)
    assert (found.title, found.term) == (r"web-1 by ann: caf\udce9", r"x\udc80")
    assert found.command == r"echo '\udcff' \ud800 é"
    path.read_text(encoding="utf-8").encode("utf-8")


@pytest.mark.parametrize("cause", [KeyboardInterrupt(), ValueError("odd"), OSError(28, "No space left on device")])
def test_one_that_could_not_be_begun_leaves_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, cause: BaseException
) -> None:
    opened: list[int] = []

    def fails(descriptor: int) -> None:
        opened.append(descriptor)
        raise cause

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(HostError if isinstance(cause, OSError) else type(cause)):
        Recorder(path, HEADER)
    assert not path.exists()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])


def test_a_header_that_cannot_be_written_leaves_nothing(path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(TypeError):
        Recorder(path, dataclasses.replace(HEADER, width=object()))  # type: ignore[arg-type]
    assert not path.exists() and len(list(Path("/proc/self/fd").iterdir())) == before
