from __future__ import annotations

import dataclasses

from lock_values import LOCK, package, wheel

from instar.lock.changes import changes


def test_what_came_went_and_moved_is_told_packages_first() -> None:
    new = dataclasses.replace(
        LOCK,
        packages=(LOCK.packages[0], package("curl", "7.88", suite="bookworm-security"), package("nginx", "1.2")),
        wheels=(wheel("flask", "2.3"), wheel("uvicorn")),
    )
    assert [str(change) for change in changes(LOCK, new)] == [
        "  curl 1:7.88~rc1+b1 → 7.88  (security)",
        "+ nginx 1.2",
        "- python3 1.0",
        "  flask 2.2 → 2.3",
        "- h11 1.0",
    ]


def test_nothing_moved_between_equal_locks_and_all_is_added_to_none() -> None:
    assert changes(LOCK, LOCK) == ()
    assert {change.kind for change in changes(None, LOCK)} == {"added"}
    assert len(changes(None, LOCK)) == len(LOCK.packages) + len(LOCK.wheels)
