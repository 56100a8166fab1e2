"""What the keys of a command by the clock say together, and with its environment."""

from __future__ import annotations

from instar.definition.problems import Problems, listed
from instar.definition.section import Reading, blame
from instar.definition.shapes import FAILED


def task(reading: Reading, problems: Problems) -> None:
    """It runs by a line of cron or in steps, and only a line has a zone."""
    kinds = [name for name in ("cron", "every") if name in reading.values]
    if len(kinds) != 1:
        found = "both" if kinds else "neither"
        problems.add(reading.node.mark, f"{reading.path}: expected one of 'cron' and 'every', found {found}")
    elif kinds == ["every"] and "zone" in reading.values:
        blame(reading, "zone", problems, "steps are the same in every zone; remove it, or say when by 'cron'")


def environment(one: Reading, roles: list[str], problems: Problems) -> None:
    """What is scheduled runs as a role that there is."""
    schedule = one.get("schedule")
    if schedule in (None, FAILED):
        return
    for reading in schedule.values():
        role = reading.get("role") if isinstance(reading, Reading) else None
        if role not in (None, FAILED) and role not in roles:
            there = f"there are {listed(roles, 'and')}" if roles else "the service has no 'roles'"
            blame(reading, "role", problems, f"there is no role '{role}'; {there}")
