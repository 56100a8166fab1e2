"""What runc says, as people are told it."""

from __future__ import annotations

import pytest

from instar.host.isolation import runc


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ('time="x" level=error msg="runc create failed: exec: \\"a\\": no"', 'exec: "a": no'),
        (r'level=error msg="no \x1b or \U0001f600"', r"no \x1b or \U0001f600"),
        ("one\ntwo\n", "two"),
        ("", "runc said nothing"),
    ],
)
def test_the_cause_is_found_whatever_it_holds(said: str, cause: str) -> None:
    assert runc.plain(said) == cause
