"""What tags hold in a registry: this ledger's go when nothing needs their images, and nobody else's ever."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from registry_kit import at
from test_registry_deploys import DEFINITION

from instar.definition import Loaded, parse
from instar.errors import FetchError
from instar.model.held import HeldImages, holder_of, tag_of
from instar.model.image import Image
from instar.model.reference import Repository
from instar.operations.deploy import deploy
from instar.operations.held import held_images
from instar.operations.images import join
from instar.operations.transfers import pull, push
from instar.store.attachments import list_json
from instar.store.manifest import INDEX_TYPE, descriptor
from instar.views.held import held_json, held_page
from instar.views.page import Table
from lying_registry import Handler, LyingRegistry, serving
from registries import RealRegistry, running
from simulated.workspace import SimulatedWorkspace

pytestmark = pytest.mark.root
KEPT = "rollout: {strategy: blue-green}, keep: {hot: 0, releases: 1}"


def definition(tmp_path: Path, host: str) -> Loaded:
    text = DEFINITION.format(registry=f"registry: {host}/team/shop")
    return parse(
        text.replace("listen: 127.0.0.1:8080", f"listen: 127.0.0.1:8080, {KEPT}"), str(tmp_path / "instar.yaml")
    )


@pytest.fixture
def one(tmp_path: Path) -> Iterator[SimulatedWorkspace]:
    made = SimulatedWorkspace(tmp_path / "one")
    yield made
    made.ledger.close()


def released(workspace: SimulatedWorkspace, loaded: Loaded, where: Repository, *words: str) -> list[Image]:
    """Bake, deploy and push an image for each word."""
    images = [workspace.bake(word) for word in words]
    for image in images:
        assert deploy(workspace, loaded, "dev", image=image.digest).outcome == "done"
        push(workspace, image.digest, where)
    return images


def told(found: HeldImages) -> dict[str, tuple[str, str]]:
    return {one.tag: (one.state, one.change or one.stays) for one in found.images}


def tag(workspace: SimulatedWorkspace, image: Image) -> str:
    return tag_of(image.digest, holder_of(workspace.ledger.identity()))


def names(workspace: SimulatedWorkspace, where: Repository) -> set[str]:
    return set(workspace.registries.tags(where).names())


def test_what_nothing_needs_goes_and_what_is_needed_is_held(one: SimulatedWorkspace, tmp_path: Path) -> None:
    with running(RealRegistry(tmp_path / "registry")) as registry:
        where, loaded = Repository(host=registry.host, path="team/shop"), definition(tmp_path, registry.host)
        assert held_images(one, where, change=False).images == ()
        old, back, active = released(one, loaded, where, "1", "2", "3")
        unreleased = one.bake("4")
        push(one, unreleased.digest, where, tag="v4")
        tags = one.registries.tags(where, actions="pull,push,delete")
        tags.put("instar-0123456789ab", old.digest)  # by nobody's ledger, of nothing that is known
        tags.put(f"instar-{active.digest.short}-00000000", active.digest)

        before = names(one, where)
        shown = held_images(one, where, change=False)
        assert names(one, where) == before and not shown.done and shown.other_tags == 1
        assert told(shown)[tag(one, old)] == ("unneeded", "removed")
        assert told(shown)[tag(one, back)] == told(shown)[tag(one, active)] == ("needed", "")
        assert told(shown)[tag(one, unreleased)] == ("unreleased", "")
        assert (
            told(shown)["instar-0123456789ab"][0]
            == told(shown)[f"instar-{active.digest.short}-00000000"][0]
            == "others"
        )
        (table, *lines) = held_page(shown)
        assert isinstance(table, Table) and "to go" in str(table.rows)
        assert "would put 0 and remove 1: with --yes" in str(lines) and "not known are machines" in str(lines)

        done = held_images(one, where, change=True)  # docker-registry deletes no single tag, and this image has another
        assert "the image is also called instar-0123456789ab" in told(done)[tag(one, old)][1]
        assert names(one, where) == before
        registry.stop()


def test_a_manifest_that_only_this_ledger_holds_goes(one: SimulatedWorkspace, tmp_path: Path) -> None:
    with running(RealRegistry(tmp_path / "registry")) as registry:
        where, loaded = Repository(host=registry.host, path="team/shop"), definition(tmp_path, registry.host)
        old, back, active = released(one, loaded, where, "1", "2", "3")
        done = held_images(one, where, change=True)
        assert told(done)[tag(one, old)] == ("unneeded", "removed") and held_json(done)["done"]
        assert names(one, where) == {tag(one, back), tag(one, active)}
        assert not one.registries.has(at(registry.host, old)) and one.registries.has(at(registry.host, back))
        pull(other := SimulatedWorkspace(tmp_path / "other"), at(registry.host, back))
        other.ledger.close()

        tags = one.registries.tags(where, actions="pull,push,delete")  # a person had one go that is needed
        tags.put("v2", back.digest)
        assert deploy(one, loaded, "dev", image=old.digest).outcome == "done"
        again = held_images(one, where, change=True)
        assert tag(one, old) not in told(again)  # the registry has not got it: push it
        assert told(again)[tag(one, back)] == (
            "unneeded",
            "the registry deletes no single tag, and the image is also called v2",
        )


def test_what_an_image_for_several_platforms_is_made_of_stays(one: SimulatedWorkspace, tmp_path: Path) -> None:
    """docker-registry deletes a manifest, and with it what every index that names it stands on."""
    with running(RealRegistry(tmp_path / "registry")) as registry:
        where, loaded = Repository(host=registry.host, path="team/shop"), definition(tmp_path, registry.host)
        old, back, active = released(one, loaded, where, "1", "2", "3")
        joined = join(one, [old.digest])
        push(one, joined.digest, where, tag="for-all")
        outer = one.store.add_blob(
            [list_json([{**descriptor(INDEX_TYPE, joined.digest, len(one.store.manifest(joined.digest)))}])]
        )[0]
        tags = one.registries.tags(where, actions="pull,push,delete")
        tags._client.put_manifest("for-others", Path(one.store.path(outer)).read_bytes())
        done = held_images(one, where, change=True)
        assert told(done)[tag(one, old)] == (
            "unneeded",
            f"the registry deletes no single tag, and the image is a part of for-all, for-others, {tag(one, joined)}",
        )
        pull(other := SimulatedWorkspace(tmp_path / "other"), at(registry.host, joined))
        other.ledger.close()
        assert names(one, where) >= {tag(one, old), tag(one, back), tag(one, active), "for-all", "for-others"}


def test_a_needed_image_without_its_tag_gets_one(one: SimulatedWorkspace, tmp_path: Path) -> None:
    with serving(LyingRegistry()) as registry:
        where, loaded = Repository(host=registry.host, path="team/shop"), definition(tmp_path, registry.host)
        (image,) = released(one, loaded, where, "1")
        del registry.manifests[tag(one, image)]
        assert told(held_images(one, where, change=False)) == {tag(one, image): ("needed", "put")}
        assert tag(one, image) not in registry.manifests
        assert told(held_images(one, where, change=True)) == {tag(one, image): ("needed", "put")}
        assert tag(one, image) in registry.manifests
        assert told(held_images(one, where, change=True)) == {tag(one, image): ("needed", "")}


def test_a_registry_that_deletes_tags_keeps_the_image_for_others(one: SimulatedWorkspace, tmp_path: Path) -> None:
    with serving(LyingRegistry()) as registry:
        where, loaded = Repository(host=registry.host, path="team/shop"), definition(tmp_path, registry.host)
        old, back, active = released(one, loaded, where, "1", "2", "3")
        for name in ("a", "b", "v1"):
            registry.manifests[name] = registry.manifests[old.digest]
        assert len(names(one, where)) == 6  # of three pages
        held_images(one, where, change=True)
        assert tag(one, old) not in registry.manifests and {old.digest, "v1"} < set(registry.manifests)
        assert {tag(one, back), tag(one, active)} < set(registry.manifests)


def test_a_tag_that_names_another_image_stays(one: SimulatedWorkspace, tmp_path: Path) -> None:
    with serving(LyingRegistry()) as registry:
        where, loaded = Repository(host=registry.host, path="team/shop"), definition(tmp_path, registry.host)
        old, _, active = released(one, loaded, where, "1", "2", "3")
        registry.manifests[tag(one, old)] = registry.manifests[active.digest]
        found = held_images(one, where, change=True)
        assert "does not name the image" in told(found)[tag(one, old)][1]
        assert not registry.methods("DELETE")


def test_a_registry_that_deletes_nothing(one: SimulatedWorkspace, tmp_path: Path) -> None:
    with running(RealRegistry(tmp_path / "registry", deletes=False)) as registry:
        where, loaded = Repository(host=registry.host, path="team/shop"), definition(tmp_path, registry.host)
        released(one, loaded, where, "1", "2", "3")
        before = names(one, where)
        with pytest.raises(FetchError, match="the registry deletes nothing") as caught:
            held_images(one, where, change=True)
        assert "storage.delete.enabled" in str(caught.value.hint)
        assert names(one, where) == before


def test_two_ledgers_hold_what_each_needs(one: SimulatedWorkspace, tmp_path: Path) -> None:
    other = SimulatedWorkspace(tmp_path / "other", actor="ben")
    with serving(LyingRegistry()) as registry:
        where, loaded = Repository(host=registry.host, path="team/shop"), definition(tmp_path, registry.host)
        old, _, _ = released(one, loaded, where, "1", "2", "3")
        deploy(other, loaded, "dev", image=other.bake("of its own").digest)
        deploy(other, loaded, "dev", image=old.digest)
        assert tag(other, old) in registry.manifests and tag(other, old) != tag(one, old)
        held_images(one, where, change=True)
        assert tag(one, old) not in registry.manifests and tag(other, old) in registry.manifests

        def read_only(handler: Handler) -> bool:
            if handler.command == "PUT":
                handler.reply(403)
            return handler.command == "PUT"

        registry.lie = read_only
        for image in other.store.images():
            if image.digest == old.digest:
                other.store.path(image.layers[0].digest).unlink()
        del registry.manifests[tag(other, old)]
        assert deploy(other, loaded, "dev", image=old.digest).outcome == "unchanged"
        assert any("is not held in" in told.text for told in other.told)
    other.ledger.close()


@pytest.mark.parametrize("answer", [b"[]", b"{}", b'{"tags": 3}', b'{"tags": [1]}', b"no JSON"])
def test_a_list_that_is_none(answer: bytes, one: SimulatedWorkspace) -> None:
    with serving(LyingRegistry()) as registry:

        def lie(handler: Handler) -> bool:
            handler.reply(200, answer)
            return True

        registry.lie = lie
        with pytest.raises(FetchError, match="what it answers is no list"):
            names(one, Repository(host=registry.host, path="team/shop"))


@pytest.mark.thorough
def test_a_list_without_an_end(one: SimulatedWorkspace) -> None:
    with serving(LyingRegistry()) as registry:

        def lie(handler: Handler) -> bool:
            number = len(registry.asked)
            link = f'</v2/x/tags/list?n=1&last={number}>; rel="next"'
            handler.reply(200, b'{"tags": ["t%d"]}' % number, Link=link)
            return True

        registry.lie = lie
        with pytest.raises(FetchError, match="there is no end of them"):
            names(one, Repository(host=registry.host, path="team/shop"))
