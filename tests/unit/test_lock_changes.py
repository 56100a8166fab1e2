from __future__ import annotations

import dataclasses

from lock_values import LOCK, package, wheel

from instar.lock.changes import changes, differences
from instar.model.digest import Digest
from instar.model.lock import ASKED


def test_what_came_went_and_moved_is_told_packages_first() -> None:
    new = dataclasses.replace(
        LOCK,
        packages=(
            LOCK.packages[0],
            package("curl", "7.88", suite="bookworm-security"),
            package("nginx", "1.2"),
            package("perl", "5.36"),
        ),
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


def test_another_file_of_the_same_version_is_a_change() -> None:
    other = dataclasses.replace(LOCK.packages[1], sha256=Digest.of(b"other"))
    new = dataclasses.replace(LOCK, packages=(LOCK.packages[0], other, *LOCK.packages[2:]))
    assert [str(change) for change in changes(LOCK, new)] == [
        f"  curl 1:7.88~rc1+b1: another file, SHA-256 {LOCK.packages[1].sha256.hex} → {other.sha256.hex}"
    ]


def test_all_that_is_said_otherwise_is_a_difference() -> None:
    old = dataclasses.replace(
        LOCK,
        packages=tuple(dataclasses.replace(one, why="needed by evil") for one in LOCK.packages),
        wheels=(*LOCK.wheels, wheel("evil")),
    )
    packages = tuple(dataclasses.replace(one, why=ASKED, label="Other") for one in LOCK.packages[1:2])
    new = dataclasses.replace(LOCK, packages=(LOCK.packages[0], *packages, *LOCK.packages[2:]), python="3.12", id="a")
    new = dataclasses.replace(new, packages=tuple(dataclasses.replace(one, why=ASKED) for one in new.packages))
    assert differences(old, new) == (
        "- evil 1.0",
        "  bash 1.0: why is 'needed by evil' in the lock, and 'asked for' now",
        "  curl 1:7.88~rc1+b1: label is 'Debian' in the lock, and 'Other' now",
        "  curl 1:7.88~rc1+b1: why is 'needed by evil' in the lock, and 'asked for' now",
        "  perl 5.36: why is 'needed by evil' in the lock, and 'asked for' now",
        "  python3 1.0: why is 'needed by evil' in the lock, and 'asked for' now",
        "  python 3.11 → 3.12",
    )


def test_that_a_lock_from_before_gives_no_reasons_is_no_difference() -> None:
    new = dataclasses.replace(LOCK, packages=tuple(dataclasses.replace(one, why=ASKED) for one in LOCK.packages))
    assert differences(LOCK, new) == ()


def test_what_moved_in_a_stage_is_told_with_its_name() -> None:
    old = dataclasses.replace(LOCK, build={"gone": LOCK, "kept": LOCK})
    other = dataclasses.replace(LOCK, packages=(*LOCK.packages[:3], package("python3", "1.1")))
    new = dataclasses.replace(LOCK, build={"kept": other, "new": dataclasses.replace(LOCK, wheels=(), packages=())})
    told = [str(change) for change in changes(old, new)]
    assert told[-1] == "  python3 1.0 → 1.1  (build.kept)"
    assert set(told[:-1]) == {f"- {one.name} {one.version}  (build.gone)" for one in (*LOCK.packages, *LOCK.wheels)}
    relabelled = dataclasses.replace(
        LOCK, packages=(dataclasses.replace(LOCK.packages[0], label="X"), *LOCK.packages[1:])
    )
    assert differences(
        dataclasses.replace(LOCK, build={"a": LOCK}), dataclasses.replace(LOCK, build={"a": relabelled})
    ) == ("  bash 1.0: label is 'Debian' in the lock, and 'X' now  (build.a)",)
