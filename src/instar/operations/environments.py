"""Which environment a word on the command line means."""

from __future__ import annotations

from instar.errors import NotFound, UsageError
from instar.ledger import Ledger
from instar.ledger.environments import no_environment
from instar.model.release import EnvironmentId, EnvironmentState


def find_environment(ledger: Ledger, word: str, service: str | None) -> EnvironmentState:
    """Return the environment that ``ENV`` or ``SERVICE/ENV`` names; ``service`` is the definition's here, if any.

    Raises NotFound, and UsageError when several services have an environment of that name.
    """
    if "/" in word:
        name, _, environment = word.partition("/")
        return _get(ledger, EnvironmentId(service=name, name=environment))
    if service is not None:
        return _get(ledger, EnvironmentId(service=service, name=word), of=service)
    found = [state for state in ledger.readable_environments()[0] if state.id.name == word]
    if len(found) > 1:
        names = ", ".join(str(state.id) for state in found)
        raise UsageError(f"cannot tell which '{word}' is meant: {names}", hint="write SERVICE/ENV")
    if not found:
        raise no_environment(word, [str(state.id) for state in ledger.readable_environments()[0]])
    return found[0]


def _get(ledger: Ledger, environment: EnvironmentId, *, of: str | None = None) -> EnvironmentState:
    found = ledger.find_environment(environment)
    if found is None:
        known = [str(state.id) for state in ledger.readable_environments()[0]]
        raise no_environment(str(environment), known, of=of)
    return found


def find_environment_id(ledger: Ledger, word: str, service: str | None) -> EnvironmentId:
    """Return the ID of the environment that ``word`` names, as :func:`find_environment` does; one that is gone when
    events tell of it.

    Raises NotFound and UsageError.
    """
    try:
        return find_environment(ledger, word, service).id
    except NotFound:
        name, _, environment = word.rpartition("/")
        environment_id = EnvironmentId(service=name or service or "", name=environment)
        if not ledger.history(environment_id, last=1):
            raise
        return environment_id
