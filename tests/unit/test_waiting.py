"""Deadlines, asking until something is so, and trying again what did not work for now."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from instar.errors import InstarError, ProviderError
from instar.waiting import Deadline, retry, until


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


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    made = list[float]()
    monkeypatch.setattr(time, "sleep", made.append)
    return made


def failing(*errors: InstarError) -> Callable[[], str]:
    """Return a call that raises each of these, and then answers."""
    left = list(errors)

    def call() -> str:
        if left:
            raise left.pop(0)
        return "answered"

    return call


def not_now(after_s: float) -> ProviderError:
    return ProviderError(f"not for {after_s} s", retry_after_s=after_s)


def test_it_is_tried_again_as_the_error_says_and_only_the_first_one_is_told(pauses: list[float]) -> None:
    told = list[str]()
    call = failing(not_now(1.0), not_now(60.0))
    assert retry(call, Deadline.after(100), longest_pause_s=5.0, waits=lambda error: told.append(error.message))
    assert pauses == [1.0, 5.0]
    assert told == ["not for 1.0 s"]


def test_one_that_never_will_work_is_raised_at_once(pauses: list[float]) -> None:
    with pytest.raises(ProviderError, match="no such thing"):
        retry(failing(ProviderError("no such thing")), Deadline.after(100), longest_pause_s=5.0)
    assert pauses == []


def test_after_the_deadline_it_is_tried_once_more_and_then_the_error_is_raised(pauses: list[float]) -> None:
    assert retry(failing(not_now(1.0)), Deadline.after(0), longest_pause_s=5.0), "the first call may have taken it all"
    with pytest.raises(ProviderError, match=r"not for 1\.0 s"):
        retry(failing(not_now(1.0), not_now(1.0)), Deadline.after(0), longest_pause_s=5.0)
    assert pauses == [1.0, 1.0]
