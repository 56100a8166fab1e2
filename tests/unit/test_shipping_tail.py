"""Lines of a log from a place on: each once, over full files, and told where some are gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from instar.model.log_stream import FULL_BYTES, LogStream
from instar.shipping.tail import MESSAGE_BYTES, Line, Place, parsed, read


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "web-dev-1-1.log"


def stream(log: Path) -> LogStream:
    return LogStream(
        kind="instance", name="web-dev-1-1", files=(log, *(log.with_name(f"{log.name}.{n}") for n in (1, 2)))
    )


def add(log: Path, *messages: str) -> None:
    with log.open("a") as file:
        file.writelines(
            f"2026-01-01T00:00:00.{number:03d}+00:00 stdout F {text}\n" for number, text in enumerate(messages)
        )


def fill(log: Path) -> None:
    """Give the file another name, as whoever writes it does when it is full."""
    for name, then in ((f"{log.name}.1", f"{log.name}.2"), (log.name, f"{log.name}.1")):
        if log.with_name(name).exists():
            log.with_name(name).rename(log.with_name(then))


def messages(log: Path, place: Place | None = None, most_bytes: int = 1 << 18) -> tuple[list[str], Place | None]:
    """Return all that comes after ``place``, read in pieces."""
    found = list[str]()
    while (piece := read(stream(log), place, most_bytes)).lines:
        found += [line.message for line in piece.lines]
        place = piece.end
    return found, piece.end


@pytest.mark.parametrize("most_bytes", [100, 1 << 18])
def test_each_line_comes_once_in_its_order_over_full_files(log: Path, most_bytes: int) -> None:
    add(log, "one", "two")
    first, place = messages(log, None, most_bytes)
    add(log, "three")
    fill(log)
    add(log, "four")
    fill(log)
    add(log, "five")
    second, place = messages(log, place, most_bytes)
    assert (first, second) == (["one", "two"], ["three", "four", "five"])
    assert messages(log, place, most_bytes) == ([], place)


def test_a_line_that_is_only_begun_waits(log: Path) -> None:
    add(log, "one")
    with log.open("a") as file:
        file.write("2026-01-01T00:00:01.000+00:00 stdout F tw")
    first, place = messages(log)
    with log.open("a") as file:
        file.write("o\n")
    assert (first, messages(log, place)[0]) == (["one"], ["two"])


def test_a_line_that_was_cut_where_the_disk_was_full_keeps_nothing_up(log: Path) -> None:
    add(log, "one")
    with log.open("a") as file:
        file.write("2026-01-01T00:00:01.000+00:00 stdo")
    fill(log)
    add(log, "two")
    assert messages(log)[0] == ["one", "two"]


def test_what_was_gone_before_it_was_read_is_counted(log: Path) -> None:
    add(log, "one")
    _, place = messages(log)
    assert place is not None
    for text in ("two", "three", "four", "five"):
        fill(log)
        add(log, text)
    piece = read(stream(log), place)
    assert piece.lost_bytes == FULL_BYTES - place.offset
    assert [line.message for line in piece.lines] == ["three"]
    assert piece.begin is not None and piece.begin.offset == 0
    assert read(stream(log), piece.begin).lost_bytes == 0, "it is counted once"
    assert (piece.lost_from, piece.lost_to) == (place.at, piece.lines[0].at) and place.at is not None
    assert piece.end is not None and piece.end.at == piece.lines[-1].at


def test_a_file_with_the_inode_of_another_is_another(log: Path) -> None:
    add(log, "one")
    _, place = messages(log)
    assert place is not None
    text = log.read_text().replace("2026", "2027") + "more\n"
    log.write_text(text)
    assert read(stream(log), place).lost_bytes == FULL_BYTES - place.offset


def test_what_waits_is_counted(log: Path) -> None:
    add(log, "one", "two")
    size = log.stat().st_size
    fill(log)
    add(log, "three")
    piece = read(stream(log), None, size // 2)
    assert piece.behind_bytes == size // 2 + log.stat().st_size
    assert read(stream(log.with_name("none.log")), None).end is None
    gone = read(stream(log.with_name("none.log")), Place(inode=1, head="", offset=3, size=10))
    assert gone.lost_bytes == 7


def test_parts_of_a_line_are_one_message_up_to_a_length() -> None:
    data = b"".join(
        (
            b"t1 stdout P a\n",
            b"t2 stderr F e\n",
            b"t3 stdout P b\n",
            b"t4 stdout F c\n",
            b"no line\n",
            b"t5 stdout F \xff\xfe\r\n",
            b"t6 stdout F \n",
            b"t7 stdout P begun\n",
        )
    )
    assert list(parsed(data)) == [
        Line(at="t2", stream="stderr", message="e"),
        Line(at="t1", stream="stdout", message="abc"),
        Line(at="t5", stream="stdout", message="\ufffd\ufffd\r"),
        Line(at="t6", stream="stdout", message=""),
        Line(at="t7", stream="stdout", message="begun", partial=True),
    ]
    long = b"".join(b"t stdout P " + b"x" * 8_000 + b"\n" for _ in range(10)) + b"t stdout F " + b"y" * 100_000 + b"\n"
    found = list(parsed(long))
    assert all(len(line.message) <= MESSAGE_BYTES for line in found)
    assert "".join(line.message for line in found) == "x" * 80_000 + "y" * 100_000
    assert [line.partial for line in found] == [True] * (len(found) - 1) + [False]


def test_a_file_without_the_end_of_a_line_is_no_end_of_shipping(log: Path) -> None:
    log.write_bytes(b"\0" * 300_000 + b"\n")
    add(log, "one")
    place, found = None, list[str]()
    for _ in range(4):
        piece = read(stream(log), place)
        place, found = piece.end, found + [line.message for line in piece.lines]
    assert found == ["one"]
