"""The decisions: each has a number of its own, and is listed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs" / "decisions"


def test_each_has_a_number_of_its_own_and_is_listed() -> None:
    names = [path.name for path in FOLDER.glob("[0-9]*.md")]
    assert [number for number, times in Counter(name[:4] for name in names).items() if times > 1] == []
    listed = (FOLDER / "README.md").read_text()
    assert [name for name in names if f"]({name})" not in listed] == []
    for name in names:
        first = (FOLDER / name).read_text().splitlines()[0]
        assert first.startswith(f"# {int(name[:4])}. "), name
