"""Deadlines, and asking until something is so."""

from __future__ import annotations

import time

import pytest

from instar.waiting import Deadline, until


def test_the_first_true_answer_is_returned_at_once() -> None:
    answers, began = iter(["", "", "here", "later"]), time.monotonic()
    assert until(lambda: next(answers), Deadline.after(60), every_s=0.01) == "here"
    assert time.monotonic() - began < 5


def test_the_last_answer_is_returned_when_none_was_true_and_it_is_asked_once_more_after_the_end() -> None:
    asked = []
    assert until(lambda: asked.append(time.monotonic()), Deadline(deadline := time.monotonic() + 0.05)) is None
    assert len(asked) >= 2 and asked[-1] >= deadline
    assert until(lambda: 0, Deadline.after(-1)) == 0


def test_what_is_left_of_a_deadline() -> None:
    over, later = Deadline.after(-1), Deadline.after(60)
    assert over.is_over and over.left_s == 0
    assert not later.is_over and 50 < later.require_s() <= 60
    with pytest.raises(TimeoutError):
        over.require_s()
