"""A release of an image that this machine has not got: pulled from the definition's registry, by its digest."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from registry_kit import at

from instar.definition import Loaded, parse
from instar.errors import BlobDamaged, HashMismatch, ImageNotFound
from instar.model.image import Image
from instar.model.reference import Repository
from instar.operations.deploy import deploy
from instar.operations.gc import gc
from instar.operations.plan import plan, plan_promotion
from instar.operations.promote import promote
from instar.operations.transfers import pull, push
from lying_registry import Handler, LyingRegistry, serving
from registries import RealRegistry, running
from simulated.workspace import SimulatedWorkspace

pytestmark = pytest.mark.root
DEFINITION = """\
name: web
image: {{base: debian:bookworm}}
{registry}
service: {{command: [serve], port: 8080, health: {{path: /healthz}}}}
environments:
  dev: {{listen: 127.0.0.1:8080}}
  production: {{listen: 127.0.0.1:8090, promote_from: dev}}
"""


def definition(tmp_path: Path, host: str | None) -> Loaded:
    line = f"registry: {host}/team/shop" if host else ""
    return parse(DEFINITION.format(registry=line), str(tmp_path / "instar.yaml"))


@pytest.fixture
def one(tmp_path: Path) -> Iterator[SimulatedWorkspace]:
    """The machine that baked."""
    made = SimulatedWorkspace(tmp_path / "one")
    yield made
    made.ledger.close()


@pytest.fixture
def image(one: SimulatedWorkspace) -> Image:
    return one.bake("one")


@pytest.fixture
def other(tmp_path: Path, one: SimulatedWorkspace) -> SimulatedWorkspace:
    """Another machine, which has the same ledger and a store of its own."""
    return SimulatedWorkspace(tmp_path / "other", one.simulation, ledger=one.ledger)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RealRegistry]:
    with running(RealRegistry(tmp_path / "registry")) as found:
        yield found


def test_a_deploy_pulls_what_is_not_here(
    registry: RealRegistry, one: SimulatedWorkspace, other: SimulatedWorkspace, image: Image, tmp_path: Path
) -> None:
    loaded = definition(tmp_path, registry.host)
    with pytest.raises(ImageNotFound) as caught:
        deploy(other, loaded, "dev", image=image.digest)
    assert f"instar push {image.digest.short}" in (caught.value.hint or "")
    with pytest.raises(ImageNotFound):
        plan(other, loaded, "dev", image=image.digest)
    assert not other.ledger.environments()

    push(one, image.digest.short, Repository(host=registry.host, path="team/shop"), tag="v1")
    listed = ["skopeo", "list-tags", "--tls-verify=false", f"docker://{registry.host}/team/shop"]
    tags = json.loads(subprocess.run(listed, check=True, capture_output=True).stdout)["Tags"]
    assert set(tags) == {f"instar-{image.digest.short}", "v1"}  # a registry that clears away what has none leaves it
    planned = plan(other, loaded, "dev", image=image.digest)
    assert planned.image == image.digest and not other.store.digests()
    assert planned.warnings[0] == f"the image is not here: it is pulled from {registry.host}/team/shop first"
    outcome = deploy(other, loaded, "dev", image=image.digest)
    assert (outcome.outcome, outcome.image) == ("done", image.digest)
    assert other.store.image(image.digest) == image
    assert next(one.stage for one in other.told if one.kind == "done") == "pull"
    registry.stop()  # nobody is asked for what is here
    assert deploy(other, loaded, "dev", image=image.digest).outcome == "unchanged"


def test_a_promotion_brings_the_image_to_the_machine(
    registry: RealRegistry, one: SimulatedWorkspace, other: SimulatedWorkspace, image: Image, tmp_path: Path
) -> None:
    loaded = definition(tmp_path, registry.host)
    deploy(one, loaded, "dev", image=image.digest)
    push(one, image.digest, Repository(host=registry.host, path="team/shop"))
    assert "pulled from" in plan_promotion(other, loaded, "dev", "production").warnings[0]
    outcome = promote(other, loaded, "dev", "production")
    assert (outcome.outcome, outcome.image) == ("done", image.digest)
    assert other.store.image(image.digest) == image


def test_a_lost_layer_is_brought_too(
    registry: RealRegistry, one: SimulatedWorkspace, image: Image, tmp_path: Path
) -> None:
    loaded = definition(tmp_path, registry.host)
    push(one, image.digest, Repository(host=registry.host, path="team/shop"))
    one.store.path(image.layers[0].digest).unlink()
    assert deploy(one, loaded, "dev", image=image.digest).outcome == "done"
    one.store.verify(image.layers[0].digest)


@pytest.mark.parametrize("which", ["manifest", "configuration"])
def test_a_damaged_image_is_brought_anew(
    which: str, registry: RealRegistry, one: SimulatedWorkspace, image: Image, tmp_path: Path
) -> None:
    push(one, image.digest, Repository(host=registry.host, path="team/shop"))
    digest = image.digest if which == "manifest" else image.config_digest
    damaged = one.store.path(digest)
    damaged.chmod(0o600)
    damaged.write_bytes(damaged.read_bytes().replace(b"sha256", b"sha255", 1))
    with pytest.raises(BlobDamaged):
        deploy(one, definition(tmp_path, None), "dev", image=image.digest)
    assert deploy(one, definition(tmp_path, registry.host), "dev", image=image.digest).outcome == "done"
    one.store.verify(digest)


def test_without_a_registry_the_way_is_told(
    one: SimulatedWorkspace, other: SimulatedWorkspace, image: Image, tmp_path: Path
) -> None:
    with pytest.raises(ImageNotFound):
        deploy(other, definition(tmp_path, None), "dev", image=image.digest)
    with pytest.raises(ImageNotFound):
        deploy(other, definition(tmp_path, "127.0.0.1:1"), "dev", image="web")  # a tag is never pulled


def test_a_registry_that_lies_costs_no_release(
    one: SimulatedWorkspace, other: SimulatedWorkspace, image: Image, tmp_path: Path
) -> None:
    """What runs goes on, and nothing of what was begun is left."""
    first = other.bake("before")

    def lying(handler: Handler) -> bool:
        if "/blobs/" not in handler.path:
            return False
        handler.reply(200, bytes(len(handler.registry.blobs[handler.path.rpartition("/")[2]])))
        return True

    with serving(LyingRegistry()) as liar:
        liar.take(one.store.root, image.digest)
        liar.lie = lying
        loaded = definition(tmp_path, liar.host)
        deploy(other, loaded, "dev", image=first.digest)
        environment = other.ledger.environments()[0].id
        before = other.ledger.history(environment), set(other.simulation.router.serving(environment))
        with pytest.raises(HashMismatch):
            deploy(other, loaded, "dev", image=image.digest)
        assert (other.ledger.history(environment), set(other.simulation.router.serving(environment))) == before
        assert len(other.ledger.releases(environment)) == 1
        assert set(other.store.digests()) == {first.digest}


def test_what_was_pulled_by_hand_goes_unless_it_is_needed(
    registry: RealRegistry, one: SimulatedWorkspace, other: SimulatedWorkspace, image: Image, tmp_path: Path
) -> None:
    what = at(registry.host, image)
    push(one, image.digest, what.repository)
    assert (pull(other, what).moved, pull(other, what).moved) == (2, 0)
    gc(other, dry_run=False)
    assert not other.store.digests()
    pull(other, what)
    deploy(other, definition(tmp_path, None), "dev", image=image.digest)
    gc(other, dry_run=False)
    assert other.store.image(image.digest) == image
