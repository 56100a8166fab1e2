"""Where packages come from: archives of others, and indexes. Nothing comes from two places."""

from __future__ import annotations

from instar.definition.problems import Problems
from instar.definition.section import Reading, blame
from instar.definition.shapes import FAILED


def archive(reading: Reading, problems: Problems) -> None:
    """One that is somewhere else has keys of its own; the machine's own sources have theirs already."""
    uris, suites = reading.get("uris"), reading.get("suites")
    if uris != () and "signed_by" not in reading.values:
        advice = "a file with the keys that it is signed by, beside the definition"
        problems.add(reading.node.mark, f"{reading.path}: 'signed_by' is missing; expected {advice}")
    for name in ("signed_by", "as_of", "components"):
        if uris == () and name in reading.values:
            advice = "this machine's own sources are asked, which say that themselves; add 'uris', or remove it"
            blame(reading, name, problems, advice)
    flat = suites is not FAILED and any(one is not FAILED and one.endswith("/") for one in suites)
    if flat and "components" in reading.values:
        blame(reading, "components", problems, "a suite that is a path, ending in '/', has none; remove it")
    if flat and len(suites) > 1:
        blame(reading, "suites", problems, "a path, ending in '/', stands alone; write an archive for each")


def indexes(reading: Reading, problems: Problems) -> None:
    """What comes from which index is said once."""
    indexes, taken = reading.get("indexes"), dict[str, str]()
    for name, projects in () if indexes is FAILED else indexes.items():
        if name == reading.get("index"):
            blame(reading, "indexes", problems, f"'index' says that all else comes from '{name}'; remove it here")
        for project in () if projects is FAILED else projects:
            if taken.get(project, name) != name:
                blame(reading, "indexes", problems, f"'{project}' comes from '{taken[project]}' and from '{name}'")
            taken.setdefault(project, name)


def packages(reading: Reading, problems: Problems) -> None:
    """A package comes from one place."""
    taken: dict[str, tuple[str, int]] = {}
    archives = reading.get("archives")
    named = {} if archives is FAILED else archives
    sections = [(f"'{reading.path}.packages'", reading), *((f"archive '{name}'", one) for name, one in named.items())]
    for what, one in sections:
        found = one.get("packages") if isinstance(one, Reading) else ()
        for text in () if found is FAILED else found:
            package = "" if text is FAILED else text.partition("=")[0]
            if package in taken and taken[package][0] != what:
                whose, line = taken[package]
                blame(one, "packages", problems, f"'{package}' stands twice, first in line {line} ({whose})")
            taken.setdefault(package or what, (what, one.line_of("packages")))
