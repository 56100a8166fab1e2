"""The ecosystems that there are, each a module here of the name of its key, read only where that key is used."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from instar.ecosystems.protocol import Ecosystem, Installing, Offering, Resolving
from instar.model.projects import INSTALLING, OFFERING

__all__ = ["INSTALLING", "OFFERING", "installing", "known_ecosystem", "offering", "resolving"]


def known_ecosystem(name: str) -> Ecosystem:
    return cast(Ecosystem, import_module(f"instar.ecosystems.{name}").ECOSYSTEM)


def installing(name: str) -> Installing:
    return cast(Installing, known_ecosystem(name))


def offering(name: str) -> Offering:
    return cast(Offering, known_ecosystem(name))


def resolving(name: str) -> Resolving:
    return cast(Resolving, known_ecosystem(name))
