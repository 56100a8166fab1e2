"""What a deploy cuts instances off from: said before it is done."""

from __future__ import annotations

from collections.abc import Iterator

from instar.model.environment import Settings
from instar.model.release import EnvironmentState
from instar.operations.workspace import Workspace
from instar.providers.base import NetworkPlan

_AT_MOST = 5  # connections of an instance that are named


def cut_connections(workspace: Workspace, state: EnvironmentState | None, settings: Settings) -> Iterator[str]:
    """Yield a sentence for each instance that has open what ``settings`` allow no instance to begin."""
    if state is None:
        return
    instances = [one for one in workspace.ledger.instances(state.id) if one.was_made]
    releases = [workspace.ledger.get_release(state.id, number) for number in {one.release for one in instances}]
    plan = NetworkPlan.of(state.id, settings, releases)
    networks = workspace.provider(state.settings.provider).networks
    found = networks.cut(plan, instances) if networks is not None else {}
    for name, lines in found.items():
        more = f", and {len(lines) - _AT_MOST} more" if len(lines) > _AT_MOST else ""
        yield (
            f"{name} is connected to {', '.join(lines[:_AT_MOST])}{more}, which instances of {state.id} may not "
            f"reach: allow it under environments.{state.id.name}.network.allow, or it is cut when the "
            "settings apply, and for instances of an older Instar when they are replaced"
        )
