"""What would be removed of a machine, as the ledger and its providers say it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from instar.errors import ProviderUnavailable
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from instar.model.state import StateDirectory
from instar.operations.uninstall import plan_uninstall

SHOP = EnvironmentId(service="shop", name="production")
HERE = SimpleNamespace(environment=EnvironmentId(service="hello", name="dev"), name="data", used_bytes=7)


class Away:
    """The volumes of a cluster that is gone."""

    def volumes(self) -> tuple[Any, ...]:
        raise ProviderUnavailable("cannot list volumes: 'https://cluster.example' does not answer")


@pytest.fixture
def workspace(tmp_path: Path) -> Any:
    state = StateDirectory(tmp_path, tmp_path / "run")
    state.volumes.mkdir()
    state.id_file.write_text("0a1b2c")
    volumes = {"local": SimpleNamespace(volumes=lambda: (HERE,)), "kubernetes": Away()}
    found = SimpleNamespace(id=SHOP, settings=Settings(provider="kubernetes"), machine=None)
    return SimpleNamespace(
        state=state,
        machine="web1",
        machine_of=lambda name: "web1" if name == "local" else None,
        is_ledger_lost=False,
        ledger=SimpleNamespace(environments=lambda: (found,), shared=False),
        provider_package=lambda name: SimpleNamespace(traits=SimpleNamespace(needs_root=False)),
        provider=lambda name: SimpleNamespace(volumes=volumes[name]),
    )


def test_a_cluster_that_is_gone_keeps_no_machine_from_being_cleared(workspace: Any) -> None:
    """Its environment is left by name; what is on the machine is told all the same."""
    plan = plan_uninstall(workspace, leave=[str(SHOP)])
    assert [state.id for state in plan.left] == [SHOP]
    assert not plan.environments
    assert plan.volumes == (HERE,)
