"""What stays of releases on a cluster: hot ones have pods, pinned ones their image and log, and the rest goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.model.image import ImageConfig
from instar.providers.kubernetes.kinds import DEPLOYMENT
from instar.store import Store
from kubernetes_author import Author, Requests, authoring
from kubernetes_namespace import ARCHITECTURE

pytestmark = [pytest.mark.cluster, pytest.mark.long]
CREATED = 1_700_000_000


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        yield made
        made.instar("destroy", "prod", "--yes")
        assert made.left() == []


def image(author: Author, number: int) -> str:
    """Put an image into the store that is another one for each number."""
    store = Store(author.folder / "store")
    layer = store.add_layer(author.folder / "tree", step="base", epoch=CREATED)
    env = {"PATH": "/bin", "NUMBER": str(number)}
    made = ImageConfig(architecture=ARCHITECTURE, user="10001:10001", command=("sh",), env=env)
    return str(store.add_image(made, [layer], created=CREATED).digest)


def groups(author: Author) -> set[str]:
    found = author.namespace.api.list(DEPLOYMENT, author.namespace.name, {})
    return {str(one["metadata"]["name"]) for one in found if not one["metadata"].get("deletionTimestamp")}


def test_what_is_pinned_stays_and_is_a_way_back(author: Author) -> None:
    author.write(instances=1, rollout="{strategy: blue-green}", settings="keep: {hot: 1, releases: 1}")
    unused = author.image
    images = {number: image(author, number) for number in (1, 2, 3, 4)}
    for number, digest in images.items():
        author.image = digest
        author.deploy()
        if number == 1:
            author.instar("pin", "prod", "1")
    assert groups(author) == {"shop-prod-3-1", "shop-prod-4-1"}, "one is hot"
    shown = {one["number"]: (one["state"], one["pinned"]) for one in author.json("status", "prod")["releases"]}
    assert shown[1][1] and shown[4] == ("active", False) and shown[3] == ("hot", False)

    assert set(author.json("gc", "--dry-run")["images"]) == {unused, images[2]}
    author.instar("gc", "--registry", f"{author.namespace.registry}/shop", "--yes")
    assert set(author.json("gc")["images"]) == {unused, images[2]}
    assert "serving" in author.instar("logs", "prod", "shop-prod-1-1")
    with Requests(author) as asked:
        author.instar("rollback", "prod", "--to", "1")
        assert author.weights()["shop-prod-1-2"] == 100, "nothing of it ran any more: it is made anew"
        author.instar("rollback", "prod", "--to", "2", status=1)
    assert set(asked.answers) == {"4 hello s3cret", "1 hello s3cret"}, asked.answers
