"""What of an environment's routes and Services is not what Instar makes of what they say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from instar.providers.kubernetes.comparison import Difference, added_to_rules, differences, other_writers
from instar.providers.kubernetes.door import Door
from instar.providers.kubernetes.door_objects import DoorObjects, Object, Standing
from instar.providers.kubernetes.kinds import ROUTE
from instar.providers.kubernetes.names import DOORS, FIRST_PART, door_part
from instar.providers.kubernetes.route import as_asked, said_parts
from instar.providers.kubernetes.sites import NOBODY


def of_names(objects: DoorObjects, standing: Standing, unmade: Mapping[str, str]) -> Iterator[Difference]:
    """Yield what the first object names and is not there, or is there and not named; ``unmade``: the doors that there
    are to be, and why they are not."""
    named = (FIRST_PART, *standing.doors.first.more)
    where = f"{objects.named(FIRST_PART)}: metadata.annotations.{DOORS}"
    said = said_parts(standing.found[FIRST_PART]) if FIRST_PART in standing.found else ""
    if said and not standing.doors.first.more:  # what cannot be read, or is of too many, is of none
        yield Difference(path=where, expected="nothing", observed=f"{str(said)[:100]}…")
    for part in (one for one in standing.found if one not in named):
        yield Difference(path=where, expected=f"it names {objects.named(part)}", observed="it does not")
    for key, why in unmade.items():
        part = door_part(key)
        if part not in named and not objects.is_taken(part):
            yield Difference(path=objects.named(part), expected="it is there", observed=why)


def of_objects(
    objects: DoorObjects, standing: Standing, sites: Sequence[str], keys: Sequence[str]
) -> Iterator[Difference]:
    """Yield what each object that there is to be has otherwise, and who else has written to it; ``sites``: the names
    that doors of these ``keys`` may have."""
    doors = standing.doors.objects
    hosts = {*(site.partition("/")[0] for site in sites), NOBODY}
    for part in (FIRST_PART, *standing.doors.first.more):
        where, found = objects.named(part), standing.found.get(part)
        if found is None:
            yield Difference(path=where, expected="it is there", observed="nothing")
            continue
        door = doors[part]
        for one in _of_object(objects, part, door, found):
            yield replace(one, path=f"{where}: {one.path}")
        if objects.kind(part) == ROUTE and door.key in keys and not hosts >= set(door.hosts):
            told = ", ".join(sorted(hosts - {NOBODY})) or "none"
            yield Difference(path=f"{where}: hostnames", expected=told, observed=", ".join(door.hosts))
        for who in sorted(set(other_writers(found))):
            yield Difference(
                path=f"{where}: managedFields", expected="nobody else writes to it", observed=f"'{who}' has"
            )


def _of_object(objects: DoorObjects, part: str, door: Door, found: Object) -> Iterator[Difference]:
    if door.is_wiped:
        yield Difference(path="spec.rules", expected="it sends requests on to another name", observed="nothing")
    made = objects.made(part, door)
    made = as_asked(made, found) if objects.kind(part) == ROUTE else made
    yield from differences(made, found)
    yield from added_to_rules(made, found)
