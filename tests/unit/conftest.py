"""A workspace in which the verbs can be tried: a ledger, a store and locks of its own, and a simulated machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from simulated.workspace import SimulatedWorkspace


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[SimulatedWorkspace]:
    made = SimulatedWorkspace(tmp_path / "home")
    yield made
    made.ledger.close()
