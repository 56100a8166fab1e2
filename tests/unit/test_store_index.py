"""What a change makes of the index."""

from __future__ import annotations

import pytest

from instar.errors import StoreError
from instar.model.digest import Digest
from instar.store.index import Descriptor, check_tag, digests, drop, enter, give_tag, tags
from instar.store.manifest import MANIFEST_TYPE, descriptor

ONE, TWO = Digest.of(b"1"), Digest.of(b"2")


def index() -> list[Descriptor]:
    return [descriptor(MANIFEST_TYPE, ONE, 1), descriptor(MANIFEST_TYPE, TWO, 2)]


def test_an_image_is_entered_once() -> None:
    found = index()
    enter(found, descriptor(MANIFEST_TYPE, ONE, 1))
    assert found == index()


def test_a_first_tag_takes_the_place_of_the_bare_descriptor() -> None:
    found = index()
    give_tag(found, "a", ONE)
    assert len(found) == 2
    assert tags(found) == {"a": ONE}
    assert digests(found) == (ONE, TWO)


def test_an_image_can_have_several_tags() -> None:
    found = index()
    for name in ("a", "b", "a"):
        give_tag(found, name, ONE)
    assert tags(found) == {"a": ONE, "b": ONE}
    assert digests(found) == (ONE, TWO)


def test_a_tag_that_moves_leaves_its_image_entered() -> None:
    found = index()
    give_tag(found, "a", ONE)
    give_tag(found, "a", TWO)
    assert tags(found) == {"a": TWO}
    assert digests(found) == (ONE, TWO)
    give_tag(found, "b", TWO)
    give_tag(found, "a", ONE)
    assert tags(found) == {"a": ONE, "b": TWO}
    assert len(found) == 2


def test_annotations_of_other_tools_stay() -> None:
    found: list[Descriptor] = [{**index()[0], "annotations": {"org.example": "x"}}]
    give_tag(found, "a", ONE)
    give_tag(found, "b", ONE)
    assert [item["annotations"]["org.example"] for item in found] == ["x", "x"]


def test_an_image_goes_with_its_tags() -> None:
    found = index()
    give_tag(found, "a", ONE)
    give_tag(found, "b", ONE)
    drop(found, (ONE,))
    assert found == index()[1:]


@pytest.mark.parametrize("name", ["guestbook", "v1.2_3-x", "A" * 128, "0"])
def test_a_tag_can_be(name: str) -> None:
    check_tag(name)


@pytest.mark.parametrize("name", ["", "a b", "-a", ".a", "a/b", "a:b", "ä", "a\n", "A" * 129, "sha256:" + "0" * 64])
def test_a_tag_cannot_be(name: str) -> None:
    with pytest.raises(StoreError, match="cannot tag"):
        check_tag(name)
