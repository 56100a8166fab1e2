"""Which environment has which name: each name is one environment's on a machine, also before it serves it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

from instar.errors import Refused
from instar.ledger.environments import Environments
from instar.ledger.events import Events
from instar.ledger.session import Session
from instar.model.codec import canonical
from instar.model.happenings import NamesHeld
from instar.model.release import EnvironmentId, EnvironmentState, OwnNames

_SET_NAMES = "UPDATE environments SET names = :names WHERE id = :id"
OthersNames = Literal["refuse", "expect", "leave"]


class NameClaims:
    """Who has a name is decided where it is written down, with all environments before one's eyes."""

    def __init__(self, session: Session, events: Events, environments: Environments) -> None:
        self._session = session
        self._events = events
        self._environments = environments

    def claim(self, environment: EnvironmentId, names: Sequence[str], *, of_others: OthersNames = "refuse") -> None:
        """Let ``environment`` have ``names`` and no others. Those that another has are refused (Refused names it),
        expected of it, or left to it. Nothing when it is so already."""
        with self._events.transaction():
            before = self._environments.get_environment(environment)
            owners = self.owners(before.id, before.machine, names)
            if owners and of_others == "refuse":
                raise taken(before.id, owners)
            expected = tuple(owners) if of_others == "expect" else ()
            held = tuple(name for name in names if name not in owners)
            self._write(before, OwnNames(held=held, expected=expected))

    def take_expected(self, environment: EnvironmentId) -> EnvironmentState:
        """Let ``environment`` have the names that it expects, and nobody else."""
        with self._events.transaction():
            state = self._environments.get_environment(environment)
            for owner in self._others(state.id, state.machine):
                kept = tuple(name for name in owner.names.held if name not in state.names.expected)
                self._write(owner, OwnNames(held=kept, expected=owner.names.expected), to=environment)
            held = (*state.names.held, *state.names.expected)
            self._write(state, OwnNames(held=held))
            return self._environments.get_environment(environment)

    def owners(
        self, environment: EnvironmentId, machine: str | None, names: Collection[str]
    ) -> dict[str, EnvironmentId]:
        """Return the names of ``names`` that others on the same machine have or expect, with whose they are."""
        found = {}
        for other in self._others(environment, machine) if names else ():
            theirs = {*other.names.held, *other.names.expected}
            found.update({name: other.id for name in names if name in theirs})
        return found

    def _others(self, environment: EnvironmentId, machine: str | None) -> list[EnvironmentState]:
        """Return all other environments that are, or may be, on the same machine."""
        others = (one for one in self._environments.environments() if one.id != environment)
        return [one for one in others if None in (machine, one.machine) or one.machine == machine]

    def _write(self, environment: EnvironmentState, names: OwnNames, to: EnvironmentId | None = None) -> None:
        if names == environment.names:
            return
        row = self._environments.row_id(environment.id)
        self._session.write(_SET_NAMES, id=row, names=canonical(names).decode())
        held = NamesHeld(held=names.held, expected=names.expected, to=None if to is None else str(to))
        self._events.record(held, environment.id, environment.active)


def taken(environment: EnvironmentId, owners: dict[str, EnvironmentId]) -> Refused:
    """Return the refusal to give an environment names that are others'."""
    name, owner = next(iter(owners.items()))
    more = f" (and {len(owners) - 1} more)" if len(owners) > 1 else ""
    return Refused(
        f"cannot reach '{environment}' by '{name}'{more}: '{owner}' has that name",
        hint=f"to move it without losing a request: instar deploy {environment.name} --take-names; "
        f"or take it from the 'listen' of {owner} and deploy that first",
    )
