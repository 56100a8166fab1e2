"""The forms of how environments find one another by name."""

from __future__ import annotations

from instar.definition.address_forms import INTERNAL, address
from instar.definition.forms import NAME, Misfit, fits


def listening(text: str) -> str:
    """Return an address as ``address_forms.address`` does, or the word for a service that has none outside."""
    return text if text == INTERNAL else address(text)


def used(text: str) -> str:
    """Return which environment is used: SERVICE (the one of the same name) or SERVICE/ENVIRONMENT."""
    service, slash, environment = text.partition("/")
    if text.endswith(f".{INTERNAL}"):
        raise Misfit(f"did you mean '{text.removesuffix(f'.{INTERNAL}')}'? The name inside follows from it")
    if not fits(NAME, service) or (slash and not fits(NAME, environment)):
        raise Misfit("what is no environment of Instar's is reached by its address; see 'config' and 'network.allow'")
    return text
