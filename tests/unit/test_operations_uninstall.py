"""What would be removed of a machine, as the ledger and its providers say it."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from instar.errors import ProviderUnavailable, Refused
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from instar.model.state import StateDirectory
from instar.operations.uninstall import plan_uninstall, uninstall
from instar.workspace import MachineWorkspace

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


def test_volumes_that_an_uninstall_has_left_go_with_a_second_one(workspace: Any) -> None:
    state = workspace.state
    (state.volumes / "hello").mkdir()
    workspace.ledger.environments = tuple
    workspace.layers = SimpleNamespace(prune=lambda *_: None)

    def remove(*, keep: tuple[str, ...]) -> tuple[Path, ...]:
        for path in state.root.iterdir():
            if path.name not in keep:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return tuple(state.root.iterdir())

    workspace.remove_state = remove
    workspace.provider = lambda name: SimpleNamespace(volumes=SimpleNamespace(volumes=lambda: (HERE,)), sweeps=None)
    uninstall(workspace, plan_uninstall(workspace), volumes=False)
    assert sorted(path.name for path in state.root.iterdir()) == ["left-by-uninstall", "volumes"]
    again = plan_uninstall(workspace)
    assert again.volumes == (HERE,)
    assert uninstall(workspace, again, volumes=True) == ()


def test_a_folder_with_volumes_of_somebody_else_is_left_alone(workspace: Any) -> None:
    workspace.state.id_file.unlink()
    with pytest.raises(Refused, match=r"nothing says that .* and there is 'volumes' in it"):
        plan_uninstall(workspace)


@pytest.mark.parametrize("others", [True, False])
def test_the_folder_of_readers_goes_with_the_last_who_had_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: bool
) -> None:
    folder = tmp_path / "instar.readers"
    monkeypatch.setattr("instar.model.state.READERS", folder)
    state = StateDirectory(tmp_path / "home", tmp_path / "home/run")
    state.root.mkdir()
    folder.mkdir()
    state.readers_socket.touch()
    if others:
        (folder / "another.sock").touch()
    workspace: Any = SimpleNamespace(state=state)
    assert MachineWorkspace.remove_state(workspace, keep=()) == ()
    assert (folder.exists(), state.root.exists()) == (others, False)
