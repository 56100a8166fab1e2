"""Lines out of the files that conmon writes."""

from __future__ import annotations

import errno
import os
import threading
import time
from io import BufferedReader
from pathlib import Path

import pytest

from instar import durable
from instar.providers.local import log_keeper, logs

TIME = "2026-01-02T03:04:05.000000006+00:00"


def line(text: str, *, stream: str = "stdout", tag: str = "F") -> str:
    return f"{TIME} {stream} {tag} {text}\n"


def texts(lines: list[str]) -> list[str]:
    return [one.split(" ", 2)[2] for one in lines]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "web-dev-1-1.log"
    logs.begin(path)
    return path


def replace(log: Path, content: str = "") -> None:
    """As conmon does when the file is full."""
    fresh = log.with_name(log.name + ".tmp")
    fresh.write_text(content)
    fresh.rename(log)


def test_parts_of_a_line_are_joined_each_in_its_stream(log: Path) -> None:
    log.write_text(line("one, ", tag="P") + line("error", stream="stderr") + line("two") + line("no end", tag="P"))
    assert list(logs.read(log, None)) == [f"{TIME} stderr error", f"{TIME} stdout one, two", f"{TIME} stdout no end"]


def test_an_empty_line_and_spaces_stay(log: Path) -> None:
    log.write_text(line("") + line("  two  ") + "broken off")
    assert texts(list(logs.read(log, None))) == ["", "  two  "]


def test_a_line_without_end_is_cut(log: Path) -> None:
    log.write_text(line("x" * (700 << 10), tag="P") * 3 + line("end"))
    assert [len(text) for text in texts(list(logs.read(log, None)))] == [1400 << 10, (700 << 10) + 3]


def test_a_line_of_many_parts_takes_no_longer_than_its_bytes() -> None:
    data = line("x", tag="P").encode() * 100_000 + line("end").encode()
    began = time.process_time()
    (joined,) = logs.Joiner().add(data)
    assert time.process_time() - began < 5
    assert joined == f"{TIME} stdout {'x' * 100_000}end"


@pytest.mark.parametrize("last", [0, 1, 5, 4000, 100_000])
def test_the_last_lines_come_across_files(log: Path, last: int) -> None:
    everything = [f"line {number} " + "x" * 80 for number in range(9_000)]
    for start in range(0, 9_000, 2_250):
        logs.keep_full(log)
        replace(log, "".join(map(line, everything[start : start + 2_250])))
    logs.keep_full(log)
    kept = everything[2_250:]
    assert texts(list(logs.read(log, None))) == kept
    assert texts(list(logs.read(log, last))) == (kept[-last:] if last else [])


def test_full_files_are_kept_once_each_and_no_more_than_three(log: Path) -> None:
    for number in range(5):
        replace(log, line(f"file {number}"))
        logs.keep_full(log)
        logs.keep_full(log)
    assert texts(list(logs.read(log, None))) == ["file 2", "file 3", "file 4"]
    assert len(list(log.parent.iterdir())) == 4


@pytest.mark.parametrize(("lost", "said"), [(True, "lines are missing here"), (None, "lines may be missing here")])
def test_where_lines_were_lost_is_said(log: Path, lost: bool | None, said: str) -> None:
    replace(log, line("file 1"))
    logs.keep_full(log)
    replace(log, line("file 2"))  # nobody looked
    replace(log, line("file 3"))
    logs.keep_full(log, lost=lost)
    first, mark, last = logs.read(log, None)
    assert (first, last) == (f"{TIME} stdout file 1", f"{TIME} stdout file 3")
    assert mark.split(" ", 2)[1] == "instar" and said in mark


@pytest.mark.parametrize("after", [1, 2])
def test_a_file_that_is_filled_while_one_is_kept_is_said_to_be_lost(log: Path, after: int) -> None:
    keeper = log_keeper.Keeper(log.parent)
    replace(log, line("file 1"))
    keeper.hear()
    keeper.keep()
    replace(log, line("file 2"))
    keeper.hear()
    for number in range(after):  # what was heard of is not what is there by now
        replace(log, line(f"file {3 + number}"))
    keeper.keep()
    replace(log, line("last"))
    keeper.hear()
    keeper.keep()
    first, mark, *rest = logs.read(log, None)
    assert texts([first, *rest]) == ["file 1", f"file {2 + after}", "last"]
    assert mark.endswith(f"instar {log_keeper.LOST}")


def test_a_file_that_is_filled_just_when_one_was_taken_is_kept_as_well(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = log_keeper.Keeper(log.parent)
    replace(log, line("file 1"))
    hear = keeper.hear

    def hear_and_fill() -> None:
        hear()
        if log_keeper.taken(log).exists() and "file 1" in log.read_text():
            replace(log, line("file 2"))

    hear()
    monkeypatch.setattr(keeper, "hear", hear_and_fill)
    keeper.keep()
    hear()
    keeper.keep()
    assert texts(list(logs.read(log, None))) == ["file 1", "file 2"]


def test_a_file_that_cannot_be_kept_is_said_to_be_lost(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*paths: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    keeper = log_keeper.Keeper(log.parent)
    for number in range(1, 4):
        replace(log, line(f"file {number}"))
        keeper.hear()
        with monkeypatch.context() as disk:
            if number == 2:
                disk.setattr(os, "link", full)
            keeper.keep()
    first, mark, last = logs.read(log, None)
    assert texts([first, last]) == ["file 1", "file 3"]
    assert mark.endswith(f"instar {log_keeper.LOST}")


def test_files_stay_in_their_order_though_another_begins_while_they_are_opened(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 4):
        replace(log, line(f"file {number}"))
        logs.keep_full(log)
    opened = durable.reader

    def open_slowly(path: Path) -> BufferedReader:
        file = opened(path)
        if path == log and "file 3" in log.read_text():
            replace(log, line("file 4"))
            logs.keep_full(log)
        return file

    monkeypatch.setattr(durable, "reader", open_slowly)
    assert texts(list(logs.read(log, None))) == ["file 2", "file 3", "file 4"]


def test_a_reader_who_is_too_slow_is_told_so(log: Path) -> None:
    lines = logs.follow(log, None, lambda: True)
    log.write_text(line("file 0"))
    assert texts([next(lines)]) == ["file 0"]
    for number in range(1, 5):
        replace(log, line(f"file {number}"))
        logs.keep_full(log)
    mark, *rest = (next(lines) for _ in range(4))
    assert "lines are missing here" in mark
    assert texts(rest) == ["file 2", "file 3", "file 4"]


def test_following_goes_on_through_a_full_file(log: Path) -> None:
    lives = threading.Event()
    lives.set()
    log.write_text(line("before"))
    lines = logs.follow(log, None, lives.is_set)
    assert next(lines).endswith("before")
    with log.open("a") as file:
        file.write(line("half, ", tag="P"))
        file.flush()
        replace(log, line("half") + line("after"))
        assert texts([next(lines), next(lines)]) == ["half, half", "after"]
    with log.open("a") as file:
        file.write(line("last") + line("words", tag="P"))
    lives.clear()
    assert texts(list(lines)) == ["last", "words"]


def test_following_the_last_lines_repeats_none(log: Path) -> None:
    log.write_text("".join(line(str(number)) for number in range(10)))
    assert texts(list(logs.follow(log, 2, lambda: False))) == ["8", "9"]
    assert list(logs.follow(log.with_name("none.log"), None, lambda: True)) == []


def test_forgetting_takes_all_files_of_an_instance_and_no_other(tmp_path: Path) -> None:
    mine = [
        "web-dev-1-1.log",
        "web-dev-1-1.log.1",
        "web-dev-1-1.log.2",
        "web-dev-1-1.log.held",
        "web-dev-1-1.log.taken",
    ]
    others = ["web-dev-1-11.log", "web-dev-1-2.log", "my-web-dev-1-1.log", "web-dev-1-1.txt"]
    for name in (*mine, *others):
        (tmp_path / name).touch()
    logs.forget(tmp_path / "web-dev-1-1.log")
    logs.forget(tmp_path / "missing" / "web-dev-1-1.log")
    assert {path.name for path in tmp_path.iterdir()} == set(others)


def test_nobody_waits_for_the_writer_of_a_pipe_in_a_log_s_place(log: Path) -> None:
    logs.held(log).unlink()
    os.mkfifo(logs.held(log))
    logs.keep_full(log, lost=True)
    assert not log_keeper.before(log, 1).is_file()
    log.unlink()
    os.mkfifo(log)
    with pytest.raises(OSError, match="it is not a regular file"):
        list(logs.read(log, None))
