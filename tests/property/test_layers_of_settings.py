"""Layers of settings against the same rules on plain values."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from instar.definition.layers import is_nothing, merged
from instar.definition.source import Listing, Mapping, Node, Scalar

NAMES = st.sampled_from(["a", "b", "c", "keep", "limits"])
VALUES = st.recursive(
    st.none() | st.integers(0, 9) | st.lists(st.integers(0, 9), max_size=2),
    lambda inner: st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
SECTIONS = st.dictionaries(NAMES, VALUES, max_size=4)


def node_of(value: Any) -> Node:
    if isinstance(value, dict):
        section = Mapping((1, 1))
        section.entries = {name: node_of(one) for name, one in value.items()}
        return section
    if isinstance(value, list):
        listing = Listing((1, 1))
        listing.items = [node_of(one) for one in value]
        return listing
    return Scalar((1, 1), "null" if value is None else str(value), plain=True)


def section_of(value: dict[str, Any]) -> Mapping:
    found = node_of(value)
    assert isinstance(found, Mapping)
    return found


def value_of(node: Node) -> Any:
    if isinstance(node, Mapping):
        return {name: value_of(one) for name, one in node.entries.items()}
    if isinstance(node, Listing):
        return [value_of(one) for one in node.items]
    assert isinstance(node, Scalar)
    return None if is_nothing(node) else int(node.text)


def expected(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    found = dict(below)
    for name, value in above.items():
        if value is None and name in below:
            found.pop(name)
        elif isinstance(value, dict) and isinstance(below.get(name), dict):
            found[name] = expected(below[name], value)
        else:
            found[name] = value
    return found


@given(SECTIONS, SECTIONS)
def test_sections_are_merged_lists_are_replaced_and_null_takes_away(
    below: dict[str, Any], above: dict[str, Any]
) -> None:
    lower, upper = section_of(below), section_of(above)
    assert value_of(merged(lower, upper)) == expected(below, above)
    assert (value_of(lower), value_of(upper)) == (below, above)  # layers of other environments are the same nodes


@given(SECTIONS)
def test_nothing_over_it_and_nothing_under_it_leave_it_as_it_is(said: dict[str, Any]) -> None:
    assert value_of(merged(section_of(said), section_of({}))) == said
    assert value_of(merged(section_of({}), section_of(said))) == said


@given(SECTIONS, st.permutations(["secrets", "config"]))
def test_a_secret_is_replaced_as_a_whole(said: dict[str, Any], keys: list[str]) -> None:
    below, above = {key: {"x": {"file": 1}} for key in keys}, {"secrets": {"x": {"source": 2}}, "config": said}
    assert value_of(merged(section_of(below), section_of(above)))["secrets"] == {"x": {"source": 2}}
