"""What an environment uses, and whether only others that use it reach it: rules over several keys."""

from __future__ import annotations

from typing import Any

from instar.definition import address_forms, door_rules
from instar.definition.problems import Problems
from instar.definition.section import Reading, blame
from instar.definition.shapes import FAILED
from instar.model.uses import variable_word


def environment(one: Reading, service: Any, problems: Problems) -> None:
    """Note what can't be of one environment. ``service``: the name of the definition, as far as it could be read."""
    _uses(one, service, problems)
    _listen(one, problems)


def _uses(one: Reading, service: Any, problems: Problems) -> None:
    uses = one.get("uses")
    if uses is FAILED:
        return
    seen, words = dict[str, tuple[str, str]](), dict[str, tuple[str, str]]()  # what is meant, and as it is written
    own = one.path.rpartition(".")[2]
    for used in (used for used in uses if used is not FAILED):
        where, _, role = used.partition(":")
        name, _, environment = where.partition("/")
        whole = f"{name}/{environment or own}"
        word = variable_word(name, role or None)
        shown = f"{whole}:{role}" if role else whole
        if whole == f"{service}/{own}":
            inside = (
                f"; its roles reach one another by 'network: {{allow: [{{to: {whole}}}]}}', at an address of 'listen'"
            )
            blame(one, "uses", problems, f"'{whole}' is this very environment; remove it{inside if role else ''}")
        elif name in seen and seen[name][0] != whole:
            told = f"'{seen[name][1]}' and '{used}' both want the name '{name}.{address_forms.INTERNAL}'"
            blame(one, "uses", problems, f"{told}; one environment of a service can be used")
        elif word in words and words[word][0] == shown:
            if words[word][1] != used:  # else the list has said so
                told = f"'{used}' stands there twice, also as '{words[word][1]}'; remove one"
                blame(one, "uses", problems, told)
        elif word in words:
            told = f"'{words[word][1]}' and '{used}' both want the variables '{word}_HOST' and '{word}_PORT'"
            blame(one, "uses", problems, f"{told}; say the address of one in 'config', and allow it in 'network.allow'")
        seen.setdefault(name, (whole, used))
        words.setdefault(word, (shown, used))


def _listen(one: Reading, problems: Problems) -> None:
    every = [listen for listen in door_rules.written(one).values() if listen is not FAILED]
    if any(address_forms.INTERNAL in listen and len(listen) > 1 for listen in every):
        advice = "with an address or a name beside it, it is reached by others too; environments that use it need none"
        blame(one, "listen", problems, f"'{address_forms.INTERNAL}' stands alone: {advice}")
