"""What an environment uses, and whether only others that use it reach it: rules over several keys."""

from __future__ import annotations

from typing import Any

from instar.definition import address_forms, door_rules
from instar.definition.problems import Problems
from instar.definition.section import Reading, blame
from instar.definition.shapes import FAILED


def environment(one: Reading, service: Any, problems: Problems) -> None:
    """Note what can't be of one environment. ``service``: the name of the definition, as far as it could be read."""
    _uses(one, service, problems)
    _listen(one, problems)


def _uses(one: Reading, service: Any, problems: Problems) -> None:
    uses = one.get("uses")
    if uses is FAILED:
        return
    seen = dict[str, str]()
    for used in (used for used in uses if used is not FAILED):
        name, _, environment = used.partition("/")
        whole = f"{name}/{environment or one.path.rpartition('.')[2]}"
        if whole == f"{service}/{one.path.rpartition('.')[2]}":
            blame(one, "uses", problems, f"'{whole}' is this very environment; remove it")
        elif seen.get(name, whole) != whole:
            told = f"'{seen[name]}' and '{whole}' both want the name '{name}.{address_forms.INTERNAL}'"
            blame(one, "uses", problems, f"{told}; one environment of a service can be used")
        elif name in seen:
            blame(one, "uses", problems, f"'{whole}' stands there twice; remove one")
        seen.setdefault(name, whole)


def _listen(one: Reading, problems: Problems) -> None:
    every = [listen for listen in door_rules.written(one).values() if listen is not FAILED]
    if any(address_forms.INTERNAL in listen and len(listen) > 1 for listen in every):
        advice = "with an address or a name beside it, it is reached by others too; environments that use it need none"
        blame(one, "listen", problems, f"'{address_forms.INTERNAL}' stands alone: {advice}")
