"""instar.yaml → Definition, with errors that name file, line and column."""

from typing import TYPE_CHECKING, Any

from instar.definition.load import Loaded, Places, load, load_name, parse
from instar.definition.template import starter

if TYPE_CHECKING:
    from instar.definition.published import json_schema, reference

__all__ = ["Loaded", "Places", "json_schema", "load", "load_name", "parse", "reference", "starter"]


def __getattr__(name: str) -> Any:
    """Bring in what only ``instar schema`` asks for, when it asks."""
    if name not in ("json_schema", "reference"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from instar.definition import published

    return getattr(published, name)
