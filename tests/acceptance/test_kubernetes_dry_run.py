"""On a real cluster: what preflight lets through the API takes, and what it refuses the API would have refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from instar.errors import InstarError
from kubernetes_namespace import Namespace
from kubernetes_words import BAD, GOOD, Written

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    made = Namespace(tmp_path_factory.mktemp("words"))
    yield made
    made.close()


def refused(namespace: Namespace, changed: dict[str, str]) -> list[str]:
    """Return what the API has against the objects of a definition; none of them is made."""
    said = []
    try:
        objects = Written.of(changed).objects()
    except InstarError as error:  # no object can be called so
        return [error.message]
    for kind, one in objects:
        try:
            namespace.api.create(kind, namespace.name, one, dry=True)
        except InstarError as error:
            said.append(error.message)
    return said


@pytest.mark.parametrize("label", GOOD)
def test_the_api_takes_what_is_let_through(namespace: Namespace, label: str) -> None:
    assert refused(namespace, dict(GOOD[label])) == []


@pytest.mark.parametrize("label", BAD)
def test_the_api_refuses_what_is_refused(namespace: Namespace, label: str) -> None:
    assert refused(namespace, dict(BAD[label][1]))
