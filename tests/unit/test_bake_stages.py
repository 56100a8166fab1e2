"""In which order packages are installed: what one pre-depends on is configured before it is unpacked."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.bake.debian.dpkg import in_order_of_need, in_stages

MARIADB = {
    "mariadb-server": {"Pre-Depends": "adduser (>= 3.40), debconf", "Depends": "mariadb-common, perl"},
    "adduser": {"Depends": "passwd, debconf (>= 0.5) | debconf-2.0"},
    "passwd": {"Depends": "libaudit1, libpam-modules"},
    "libaudit1": {"Depends": "libaudit-common"},
    "libaudit-common": {},
    "libpam-modules": {"Pre-Depends": "libaudit1, debconf"},
    "debconf": {"Provides": "debconf-2.0"},
    "mariadb-common": {},
    "perl": {"Depends": "libperl"},
    "libperl": {},
}


def test_what_a_preinst_may_use_is_configured_with_all_that_it_needs() -> None:
    assert in_stages(MARIADB) == (
        ("debconf", "libaudit-common", "libaudit1"),
        ("adduser", "libpam-modules", "passwd"),
        ("libperl", "mariadb-common", "mariadb-server", "perl"),
    )


def test_without_pre_dependencies_there_is_one_stage() -> None:
    controls = {"b": {"Depends": "a"}, "a": {"Depends": "b"}, "c": {"Pre-Depends": "elsewhere"}}
    assert in_stages(controls) == (("a", "b", "c"),)


def test_a_circle_is_one_stage_and_others_are_not_held_up_by_it() -> None:
    controls = {"a": {"Pre-Depends": "b"}, "b": {"Depends": "a"}, "c": {"Pre-Depends": "d"}, "d": {}}
    assert in_stages(controls) == (("b", "a"), ("d",), ("c",))


def test_a_virtual_package_is_who_provides_it_and_all_alternatives_count() -> None:
    controls = {"a": {"Pre-Depends": "mta | b"}, "b": {}, "z": {"Provides": "mta (= 1)"}}
    assert in_stages(controls) == (("z", "b"), ("a",))


@pytest.mark.parametrize("field", ["Pre-Depends", "Depends"])
def test_a_long_chain_is_no_matter(field: str) -> None:
    controls = {f"p{number:04}": {field: f"p{number + 1:04}"} for number in range(3000)}
    controls["p3000"] = {}
    if field == "Pre-Depends":
        assert in_order_of_need(controls)[:2] == ("p3000", "p2999")
    assert sum(len(stage) for stage in in_stages(dict(list(controls.items())[-300:]))) == 300


NAMES = st.sampled_from("abcdefgh")
RELATION = st.lists(NAMES, max_size=2).map(", ".join)
CONTROLS = st.dictionaries(NAMES, st.fixed_dictionaries({"Pre-Depends": RELATION, "Depends": RELATION}))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(CONTROLS)
def test_every_package_is_in_one_stage_and_what_it_pre_depends_on_is_not_later(
    controls: Mapping[str, Mapping[str, str]],
) -> None:
    stages = in_stages(controls)
    place = {name: number for number, stage in enumerate(stages) for name in stage}
    assert sorted(name for stage in stages for name in stage) == sorted(controls)
    for name, control in controls.items():
        for relation in ("Pre-Depends", "Depends"):
            for needed in control[relation].split(", "):
                if needed in controls and place[needed] > place[name]:
                    raise AssertionError(f"{name} stands before {needed}, which it needs")
