"""A Debian control paragraph: its fields, and which other packages it names. Source: deb-control(5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

_NEEDING = ("Pre-Depends", "Depends")


def fields(paragraph: bytes) -> dict[str, str]:
    """Return the fields of a control paragraph in their order, continuation lines included."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in paragraph.decode("utf-8", "surrogateescape").split("\n"):
        if line.startswith((" ", "\t")) and name:
            found[name].append(line)
        elif ":" in line:
            name, _, value = line.partition(":")
            found[name] = [value.strip()]
    return {name: "\n".join(lines) for name, lines in found.items()}


def names(relation: str) -> Iterator[str]:
    """Yield the package names in a relationship field, alternatives too, without versions and architectures."""
    for alternative in relation.replace("|", ",").split(","):
        name = alternative.strip().partition(" ")[0].partition("(")[0].partition(":")[0]
        if name:
            yield name


def is_essential(control: Mapping[str, str]) -> bool:
    return control.get("Essential") == "yes"


def needs(controls: Mapping[str, Mapping[str, str]]) -> dict[str, frozenset[str]]:
    """Return which of the packages each of them may need: ``controls`` are name → fields.

    One that any of its dependencies names counts, or provides what one names; versions are not compared.
    """
    providers: dict[str, set[str]] = {name: {name} for name in controls}
    for name, control in controls.items():
        for virtual in names(control.get("Provides", "")):
            providers.setdefault(virtual, set()).add(name)
    return {
        name: frozenset(
            package
            for field in _NEEDING
            for named in names(control.get(field, ""))
            for package in providers.get(named, ())
            if package != name
        )
        for name, control in controls.items()
    }
