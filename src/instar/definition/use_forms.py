"""The forms of how environments find one another by name."""

from __future__ import annotations

from instar.definition.address_forms import INTERNAL, address
from instar.definition.forms import NAME, Misfit, fits


def listening(text: str) -> str:
    """Return an address as ``address_forms.address`` does, or the word for a service that has none outside."""
    return text if text == INTERNAL else address(text)


def used(text: str) -> str:
    """Return which environment is used: SERVICE (the one of the same name) or SERVICE/ENVIRONMENT, and of either
    ``:ROLE`` where it is another role than the first."""
    where, colon, role = text.partition(":")
    service, slash, environment = where.partition("/")
    if text.endswith(f".{INTERNAL}"):
        *of_role, last = text.removesuffix(f".{INTERNAL}").split(".")
        raise Misfit(f"did you mean '{':'.join([last, *of_role])}'? The name inside follows from it")
    if colon and "." in role:
        raise Misfit("a role is found at its own port alone, not at further ones; say their address in 'config'")
    parts = (service, *([environment] if slash else ()), *([role] if colon else ()))
    if not all(fits(NAME, part) for part in parts):
        raise Misfit("what is no environment of Instar's is reached by its address; see 'config' and 'network.allow'")
    return text
