"""Which releases are kept, of all environments: what may be removed is asked here (``retention.py`` has the rules)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from instar.model.release import EnvironmentState, Release
from instar.operations import retention
from instar.operations.workspace import Workspace


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """An environment with all that decides what of it is kept."""

    state: EnvironmentState
    releases: tuple[Release, ...]
    present: frozenset[int]


def standings(workspace: Workspace) -> Iterator[Standing]:
    for state in workspace.ledger.environments():
        present = frozenset(instance.release for instance in workspace.ledger.instances(state.id))
        yield Standing(state=state, releases=workspace.ledger.releases(state.id), present=present)


def kept_releases(workspace: Workspace) -> Iterator[Release]:
    """Yield every release whose image, and whose secrets, must stay."""
    for one in standings(workspace):
        numbers = retention.kept(one.state, one.releases, one.present)
        yield from (release for release in one.releases if release.number in numbers)
