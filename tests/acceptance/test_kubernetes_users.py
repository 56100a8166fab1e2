"""Instances with a user namespace of their own, where nodes make one: their root is nobody's on the node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.providers.kubernetes.kinds import POD
from kubernetes_author import Author, authoring

pytestmark = pytest.mark.cluster


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        yield made


def maps(author: Author) -> list[list[int]]:
    """Return which users of the node those of each pod are: the first inside, the first outside, how many."""
    api, where = author.namespace.api, author.namespace.name
    pods = [str(one["metadata"]["name"]) for one in api.list(POD, where, {"instar/service": "shop"})]
    said = [api.run(where, name, ("cat", "/proc/self/uid_map"), 10) for name in pods]
    assert [status for status, _ in said] == [0] * len(pods)
    return [[int(number) for number in text.split()] for _, text in said]


@pytest.mark.parametrize("own", [True, False])
def test_user_namespaces_give_instances_users_of_their_own(author: Author, own: bool) -> None:
    author.write(section=", user_namespaces: true" if own else "")
    author.deploy()
    found = maps(author)
    assert len(found) == 2
    if own:
        assert all(outside >= 65_536 and count <= 65_536 for _, outside, count in found), found
        assert found[0][1] != found[1][1], "and each others than any other has"
    else:
        assert found == [[0, 0, 4_294_967_295]] * 2
    author.instar("destroy", "prod", "--yes")
    assert author.left() == []
