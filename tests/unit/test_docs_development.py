"""The map of the house in docs/development.md is that of the house."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_room_is_on_the_map_and_no_other() -> None:
    text = (ROOT / "docs/development.md").read_text()
    table = text[text.index("| room |") : text.index("Where a new thing goes")]
    named = [name for line in table.strip().splitlines()[2:] for name in re.findall(r"`([a-z_]+)`", line.split("|")[1])]
    rooms = {path.parent.name for path in (ROOT / "src/instar").glob("*/__init__.py")}
    assert sorted(named) == sorted(rooms)
