"""instar.yaml → Definition, with errors that name file, line and column."""

from instar.definition.load import Loaded, Places, load, parse

__all__ = ["Loaded", "Places", "load", "parse"]
