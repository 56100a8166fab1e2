"""What differs between two looks at an instance, and what is not guessed."""

from __future__ import annotations

from instar.model.survey import Difference, Seen, Survey, Writable, differences

FILE, FOLDER = 0o100644, 0o040755


def of(files: dict[str, Seen], *, whole: bool = True) -> Survey:
    return Survey(places={"/tmp": Writable(files=files, whole=whole)})


def test_files_that_came_went_and_changed() -> None:
    before = of(
        {
            "/tmp/gone": Seen(mode=FILE, size_bytes=1),
            "/tmp/longer": Seen(mode=FILE, size_bytes=1, mtime_ns=1),
            "/tmp/mode": Seen(mode=FILE),
            "/tmp/same": Seen(mode=FILE, mtime_ns=7),
            "/tmp/touched": Seen(mode=FILE, mtime_ns=1),
        }
    )
    after = of(
        {
            "/tmp/folder": Seen(mode=FOLDER),
            "/tmp/longer": Seen(mode=FILE, size_bytes=3, mtime_ns=2),
            "/tmp/mode": Seen(mode=0o100600),
            "/tmp/new": Seen(mode=FILE, size_bytes=5),
            "/tmp/same": Seen(mode=FILE, mtime_ns=7),
            "/tmp/touched": Seen(mode=FILE, mtime_ns=2),
        }
    )
    assert differences(before, after) == (
        Difference(kind="added", name="/tmp/folder", what="folder"),
        Difference(kind="removed", name="/tmp/gone"),
        Difference(kind="changed", name="/tmp/longer", what="1 B → 3 B"),
        Difference(kind="changed", name="/tmp/mode", what="mode 644 → 600"),
        Difference(kind="added", name="/tmp/new", what="5 B, mode 644"),
        Difference(kind="changed", name="/tmp/touched", what="written to"),
    )
    assert differences(before, before) == ()


def test_what_was_not_looked_at_is_not_taken_for_a_difference() -> None:
    one, two = of({"/tmp/a": Seen(mode=FILE)}), of({"/tmp/b": Seen(mode=FILE)}, whole=False)
    assert [found.kind for found in differences(one, two)] == ["added"]
    assert [found.kind for found in differences(two, one)] == ["removed"]
    assert one.whole and not two.whole


def test_processes_that_are_new() -> None:
    before = Survey(processes={(7, 100): "serve", (8, 100): "gone"})
    after = Survey(processes={(7, 100): "serve", (8, 200): "sleep 9"})
    assert differences(before, after) == (Difference(kind="started", name="sleep 9", what="pid 8"),)
