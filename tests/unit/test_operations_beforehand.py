"""What keeps a release from being begun, whatever its image, is told before one is baked or pulled for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from instar.definition import Loaded, load
from instar.errors import InstarError, UsageError
from instar.model.digest import Digest
from instar.model.release import EnvironmentId
from instar.operations.deploy import deploy
from instar.operations.plan import plan, plan_promotion
from instar.operations.promote import promote
from simulated.workspace import SimulatedWorkspace

DEFINITION = """\
name: web
image: {base: debian:bookworm}
service: {command: [serve], port: 8080%s}
environments:
  dev: {listen: 127.0.0.1:8080}
  production: {listen: 127.0.0.1:%d}
"""
NOBODYS = Digest.of(b"an image that nobody has")
PRODUCTION = EnvironmentId(service="web", name="production")
TAKEN = "cannot listen on '127.0.0.1:8091': process 7 has it"

Change = Callable[[SimulatedWorkspace, Path], Loaded]


def defined(folder: Path, *, more: str = "", port: int = 8090) -> Loaded:
    (folder / "instar.yaml").write_text(DEFINITION % (more, port))
    return load(folder / "instar.yaml")


@pytest.fixture
def running(workspace: SimulatedWorkspace, tmp_path: Path) -> Digest:
    """A release is active in both environments: return its image."""
    image = workspace.bake("one").digest
    for name in ("dev", "production"):
        deploy(workspace, defined(tmp_path), name, image=image)
    return image


def address_taken(workspace: SimulatedWorkspace, folder: Path) -> Loaded:
    workspace.simulation.router.taken["127.0.0.1:8091"] = "process 7"
    return defined(folder, port=8091)


def half_destroyed(workspace: SimulatedWorkspace, folder: Path) -> Loaded:
    workspace.ledger.set_destroying(PRODUCTION)
    return defined(folder)


def spoken_otherwise(workspace: SimulatedWorkspace, folder: Path) -> Loaded:
    return defined(folder, more=", protocol: h2")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (address_taken, TAKEN),
        (half_destroyed, "cannot change 'web/production': it is being destroyed"),
        (
            spoken_otherwise,
            "cannot change 'web/production': release 1, which runs, speaks http, and this one speaks h2",
        ),
    ],
)
def test_a_deploy_is_refused_before_it_looks_for_its_image_by_what_its_plan_says(
    workspace: SimulatedWorkspace, tmp_path: Path, running: Digest, change: Change, told: str
) -> None:
    loaded = change(workspace, tmp_path)
    with pytest.raises(InstarError) as planned:
        plan(workspace, loaded, "production", image=running)
    with pytest.raises(InstarError) as refused:
        deploy(workspace, loaded, "production", image=NOBODYS)
    assert str(planned.value) == str(refused.value) == told


@pytest.mark.usefixtures("running")
def test_an_environment_is_not_promoted_to_itself(workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    for verb in (promote, plan_promotion):
        with pytest.raises(UsageError, match="cannot promote 'dev' to itself"):
            verb(workspace, defined(tmp_path), "dev", "dev")


def test_a_promotion_is_refused_before_it_looks_for_its_image(
    workspace: SimulatedWorkspace, tmp_path: Path, running: Digest
) -> None:
    workspace.store.remove(running)
    with pytest.raises(InstarError) as refused:
        promote(workspace, address_taken(workspace, tmp_path), "dev", "production")
    assert str(refused.value) == TAKEN
