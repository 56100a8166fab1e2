"""Work in several threads: its order, its errors, its end, and what it carries along."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from instar import process, threads


def test_answers_come_in_the_order_of_what_was_asked_and_no_more_than_so_many_at_once() -> None:
    busy, most, guard = 0, 0, threading.Lock()

    def work(number: int) -> int:
        nonlocal busy, most
        with guard:
            busy += 1
            most = max(most, busy)
        time.sleep(0.002 * (7 - number))
        with guard:
            busy -= 1
        return number * number

    assert threads.at_once(work, range(7), at_most=3) == [number * number for number in range(7)]
    assert most == 3


def test_all_are_done_whatever_becomes_of_the_others_and_the_first_error_is_raised() -> None:
    done = []

    def work(number: int) -> None:
        done.append(number)
        if number in (1, 3):
            raise ValueError(number)

    with pytest.raises(ValueError, match="1"):
        threads.at_once(work, range(6), at_most=2)
    assert sorted(done) == list(range(6))
    with pytest.raises(KeyError):
        threads.apart(lambda: {}[""])


def test_who_is_interrupted_waits_for_what_was_begun_and_begins_nothing_more() -> None:
    begun, ended = [], []

    def work(number: int) -> None:
        begun.append(number)
        time.sleep(0.2)
        ended.append(number)

    interruption = threading.Timer(0.05, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    interruption.start()
    with pytest.raises(KeyboardInterrupt):
        threads.at_once(work, range(50), at_most=2)
    assert begun == ended == [0, 1] or sorted(begun) == sorted(ended) == [0, 1]
    interruption.join()


def test_threads_hand_on_what_is_shared_where_they_are_begun_and_nothing_else() -> None:
    held, other = (os.open("/", os.O_RDONLY | os.O_CLOEXEC) for _ in range(2))
    listing = ["sh", "-c", "ls -l /proc/$$/fd"]

    def inherited(_: object = None) -> set[int]:
        lines = process.run(listing).stdout.decode().splitlines()
        return {int(line.split()[-3]) for line in lines if line.endswith("-> /")}

    try:
        with process.share(held):
            assert inherited() == {held}
            assert threads.apart(inherited) == {held}
            assert threads.at_once(inherited, range(3), at_most=3) == [{held}] * 3
            late = threads.carried(inherited)
            elsewhere: list[set[int]] = []
            bare = threading.Thread(target=lambda: elsewhere.append(_sharing(other, inherited)))
            bare.start()
            bare.join()
            assert elsewhere == [{other}]
            assert inherited() == {held}
        assert inherited() == set()
        assert late() == set(), "it may be closed, and be another's by now"
    finally:
        os.close(held)
        os.close(other)


def _sharing(descriptor: int, work: object) -> set[int]:
    with process.share(descriptor):
        found = work() if callable(work) else None
    assert isinstance(found, set)
    return found
