"""What the keys of a secret say together, in a definition and in the machine's own file."""

from __future__ import annotations

from typing import Final

from instar.definition.problems import Problems, listed
from instar.definition.section import Reading, blame

_DEFINITION: Final = ("file", "age", "source")
_MACHINE: Final = ("file", "command", "variable")


def secret(reading: Reading, problems: Problems) -> None:
    _one_of(reading, _DEFINITION, problems)


def source(reading: Reading, problems: Problems) -> None:
    _one_of(reading, _MACHINE, problems)
    if "timeout" in reading.values and "command" not in reading.values:
        blame(reading, "timeout", problems, "only a 'command' takes time; add it, or remove this")


def _one_of(reading: Reading, kinds: tuple[str, ...], problems: Problems) -> None:
    found = [kind for kind in kinds if kind in reading.values]
    if len(found) > 1:
        blame(reading, found[1], problems, f"expected one of {_quoted(kinds)}, found {listed(found, 'and')}")
    elif not found:
        problems.add(reading.node.mark, f"{reading.path}: expected one of {_quoted(kinds)}, found none")


def _quoted(kinds: tuple[str, ...]) -> str:
    return listed([f"'{kind}'" for kind in kinds], "and")
