"""A workspace in which the verbs can be tried, on a simulated machine; a stub of a cluster, and what acts on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes_values import World

from cluster_stub import ClusterStub
from simulated.workspace import SimulatedWorkspace


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[SimulatedWorkspace]:
    made = SimulatedWorkspace(tmp_path / "home")
    yield made
    made.ledger.close()


@pytest.fixture
def stub() -> Iterator[ClusterStub]:
    made = ClusterStub()
    yield made
    made.close()


@pytest.fixture
def world(stub: ClusterStub, tmp_path: Path) -> World:
    return World(stub, tmp_path)
