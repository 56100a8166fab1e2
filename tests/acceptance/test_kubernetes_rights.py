"""Whoever lacks rights in a cluster is told all of them, and who has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from test_kubernetes_policy import Administrator

from kubernetes_author import Author, authoring

pytestmark = pytest.mark.cluster


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        yield made


@pytest.fixture
def administrator(author: Author) -> Iterator[Administrator]:
    made = Administrator(author)
    try:
        yield made
    finally:
        made.clear()


def test_an_account_without_roles_is_told_which_rights_it_lacks(author: Author, administrator: Administrator) -> None:
    administrator.become("default")
    author.write()
    told = author.deploy(status=1)
    assert "instar kubernetes rbac prod | kubectl apply -f -" in told, told
    for lacking in (
        "get namespaces; ",
        "create, get, delete secrets",
        "create, get, patch, delete httproutes",
        "get gateways",
    ):
        assert lacking in told, told
    assert "Traceback" not in told and author.left() == []
