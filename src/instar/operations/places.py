"""Which environment a word on the command line means."""

from __future__ import annotations

from instar.errors import NotFound, UsageError
from instar.ledger import Ledger
from instar.model.release import EnvironmentState, Place


def find_environment(ledger: Ledger, word: str, service: str | None) -> EnvironmentState:
    """Return the environment that ``ENV`` or ``SERVICE/ENV`` names; ``service`` is the definition's here, if any.

    Raises NotFound, and UsageError when several services have an environment of that name.
    """
    if "/" in word:
        name, _, environment = word.partition("/")
        return ledger.get_environment(Place(service=name, environment=environment))
    if service is not None:
        return ledger.get_environment(Place(service=service, environment=word))
    found = [state for state in ledger.environments() if state.place.environment == word]
    if len(found) > 1:
        names = ", ".join(str(state.place) for state in found)
        raise UsageError(f"cannot tell which '{word}' is meant: {names}", hint="write SERVICE/ENV")
    if not found:
        known = ", ".join(str(state.place) for state in ledger.environments()) or "there is none yet"
        raise NotFound(f"cannot find environment '{word}': {known}", hint="instar status lists them")
    return found[0]


def find_place(ledger: Ledger, word: str, service: str | None) -> Place:
    """Return the place that ``word`` names, as :func:`find_environment` does; one that is gone when events tell of it.

    Raises NotFound and UsageError.
    """
    try:
        return find_environment(ledger, word, service).place
    except NotFound:
        name, _, environment = word.rpartition("/")
        place = Place(service=name or service or "", environment=environment)
        if not ledger.history(place, last=1):
            raise
        return place
