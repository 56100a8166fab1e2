"""What the keys of a secret say together, in a definition and in the machine's own file."""

from __future__ import annotations

from typing import Final

from instar.definition.problems import Problems, listed
from instar.definition.section import Reading, blame
from instar.definition.shapes import FAILED

_DEFINITION: Final = ("file", "age", "source")
_OF_EVERY_INSTANCE: Final = ("PATH", "HOME", "PORT")
_MACHINE: Final = ("file", "command", "variable")


def secret(reading: Reading, problems: Problems) -> None:
    one_of(reading, _DEFINITION, problems)


def environment(reading: Reading, problems: Problems) -> None:
    """No secret takes the place of another variable: which of them counts would be a guess."""
    secrets, config = reading.get("secrets"), reading.get("config")
    if FAILED in (secrets, config):
        return
    for name, secret in secrets.items():
        if not isinstance(secret, Reading) or secret.get("variable") is not True:
            continue
        if name in config:
            blame(secret, "variable", problems, f"'{name}' stands in 'config' too; one of them has to go")
        elif name in _OF_EVERY_INSTANCE or name.startswith("INSTAR_"):
            blame(secret, "variable", problems, f"every instance has '{name}' already; give the secret another name")


def source(reading: Reading, problems: Problems) -> None:
    one_of(reading, _MACHINE, problems)
    if "timeout" in reading.values and "command" not in reading.values:
        blame(reading, "timeout", problems, "only a 'command' takes time; add it, or remove this")


def one_of(reading: Reading, kinds: tuple[str, ...], problems: Problems) -> None:
    """Of several keys, one says where something comes from, or goes to."""
    found = [kind for kind in kinds if kind in reading.values]
    if len(found) > 1:
        blame(reading, found[1], problems, f"expected one of {_quoted(kinds)}, found {listed(found, 'and')}")
    elif not found and reading.node.entries.keys() <= reading.section.keys.keys():  # else: which was meant is told
        problems.add(reading.node.mark, f"{reading.path}: expected one of {_quoted(kinds)}, found none")


def _quoted(kinds: tuple[str, ...]) -> str:
    return listed([f"'{kind}'" for kind in kinds], "and")
