"""Which ledger a machine goes by, after it had worked by one that others share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.errors import Refused
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from instar.operations.ledger import require_none_unread
from simulated.workspace import SimulatedWorkspace

DEV = EnvironmentId(service="web", name="dev")


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[SimulatedWorkspace]:
    """A machine with its own ledger, on which something runs, and an older Instar's note that it shared another."""
    made = SimulatedWorkspace(tmp_path / "home")
    (made.state.routers / "web/dev").mkdir(parents=True)
    made.state.shared_ledger.write_text(f"{'a' * 64}\npostgresql://db/instar\n")
    yield made
    made.ledger.close()


def test_what_its_own_ledger_deployed_is_its_own(workspace: SimulatedWorkspace) -> None:
    workspace.ledger.save_settings(DEV, Settings())
    require_none_unread(workspace)
    assert not workspace.state.shared_ledger.exists()


def test_what_runs_by_no_record_of_it_was_deployed_by_the_other(workspace: SimulatedWorkspace) -> None:
    with pytest.raises(Refused, match="deployed by another ledger, then at postgresql://db/instar"):
        require_none_unread(workspace)
    assert workspace.state.shared_ledger.exists()
