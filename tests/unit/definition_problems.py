"""What is wrong with a definition."""

from __future__ import annotations

from instar.definition import parse
from instar.errors import DefinitionError


def problems_of(text: str) -> list[str]:
    """Return all that is wrong with a definition, each as "LINE:COLUMN: what"; nothing of one that is right."""
    try:
        parse(text, "f")
    except DefinitionError as error:
        return [str(problem).removeprefix("f:") for problem in error.problems]
    return []
