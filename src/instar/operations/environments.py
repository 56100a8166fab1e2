"""Which environment a word on the command line means."""

from __future__ import annotations

from collections.abc import Sequence

from instar.errors import EnvironmentNotFound, NotFound, UsageError
from instar.ledger import Ledger
from instar.model.release import EnvironmentId, EnvironmentState


def find_environment(ledger: Ledger, word: str, service: str | None) -> EnvironmentState:
    """Return the environment that ``ENV`` or ``SERVICE/ENV`` names; ``service`` is the definition's here, if any.

    Raises NotFound, and UsageError when several services have an environment of that name.
    """
    if "/" in word:
        name, _, environment = word.partition("/")
        return _get(ledger, EnvironmentId(service=name, name=environment))
    if service is not None:
        return _get(ledger, EnvironmentId(service=service, name=word))
    found = [state for state in ledger.readable_environments()[0] if state.id.name == word]
    if len(found) > 1:
        names = ", ".join(str(state.id) for state in found)
        raise UsageError(f"cannot tell which '{word}' is meant: {names}", hint="write SERVICE/ENV")
    if not found:
        raise no_environment(word, [str(state.id) for state in ledger.readable_environments()[0]])
    return found[0]


def _get(ledger: Ledger, environment: EnvironmentId) -> EnvironmentState:
    found = ledger.find_environment(environment)
    if found is None:
        raise no_environment(str(environment), [str(state.id) for state in ledger.readable_environments()[0]])
    return found


def no_environment(word: str, known: Sequence[str]) -> EnvironmentNotFound:
    """Return the error that says which environments are ``known``, the nearest to ``word`` first."""
    from difflib import get_close_matches  # only here: its import is slow

    names = {name.partition("/")[2]: name for name in known} | {name: name for name in known}
    near = list(dict.fromkeys(names[name] for name in get_close_matches(word, names, n=2)))[:1]
    ask = f"did you mean {near[0]}? " if near else ""
    hint = f"{ask}there are: {', '.join(near + [name for name in known if name not in near])}"
    return EnvironmentNotFound(
        f"cannot find '{word}': there is no such environment",
        hint=hint if known else f"make it with: instar deploy {word.rpartition('/')[2]}",
    )


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
