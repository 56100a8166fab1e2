"""A dataclass that declares its keys is read strictly, as the definition is: this is how a provider has a section."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pytest

from instar.definition.declared import About, Sections, read_section
from instar.definition.problems import Problems
from instar.definition.section import Section
from instar.errors import DefinitionError
from instar.model.declaration import key


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool:
    machines: int = field(default=1, metadata=key("How many machines it has.", low=1, high=9))
    idle_ms: int | None = field(default=None, metadata=key("After how long one ends.", low=1_000, high=60_000))


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    context: str = field(metadata=key("Which cluster.", "name"))
    mode: Literal["fast", "safe"] = field(default="safe", metadata=key("How it goes about it.", later=("wild",)))
    pool: Pool = field(default=Pool(), metadata=key("Where instances run."))
    pools: tuple[Pool, ...] = field(default=(), metadata=key("Further ones."))
    labels: Mapping[str, str] = field(default_factory=dict, metadata=key("What it is marked with.", "variables"))
    written_elsewhere: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Shifted:
    late: ClassVar[Any] = key("No field of its own.", "only true", default=False)
    hour: int = field(default=0, metadata=key("Which hour.", low=0, high=23, name="at"))


def value_of(text: str, section: Section | None = None) -> Any:
    chosen = section or Sections({Pool: About("a section such as {machines: 3}")}).of(Cluster)
    return read_section(chosen, text, Problems("cluster.yaml"))


def problems_of(text: str) -> list[str]:
    with pytest.raises(DefinitionError) as caught:
        value_of(text)
    return [str(problem) for problem in caught.value.problems]


def test_types_units_and_defaults_are_the_fields() -> None:
    text = "context: east\nmode: fast\npool: {machines: 3, idle: 30s}\npools: [{}, {machines: 2}]\nlabels: {team: a}"
    assert value_of(text) == Cluster(
        context="east",
        mode="fast",
        pool=Pool(machines=3, idle_ms=30_000),
        pools=(Pool(), Pool(machines=2)),
        labels={"team": "a"},
    )
    assert value_of("context: east") == Cluster(context="east")


def test_all_that_is_wrong_is_told_at_once_where_it_stands() -> None:
    text = "contxt: east\nmode: wild\npool: {machines: 12, idle: 100ms}\npools: {machines: 2}\nwritten_elsewhere: 1\n"
    assert problems_of(text) == [
        "cluster.yaml:1:1: unknown key 'contxt'; did you mean 'context'?",
        "cluster.yaml:2:7: mode: 'wild' is not in this version; expected fast or safe",
        "cluster.yaml:3:18: pool.machines: expected a whole number from 1 to 9, found the number 12",
        "cluster.yaml:3:28: pool.idle: expected 1s to 1m, found '100ms'",
        "cluster.yaml:4:1: pools: expected a list of sections such as {machines: 3}, found a section; "
        "write it as a list: [{…}], or '- ' before it",
        "cluster.yaml:5:1: unknown key 'written_elsewhere'; expected context, mode, pool, pools or labels",
    ]


def test_what_is_missing_is_told_also_of_an_empty_file() -> None:
    assert problems_of("# nothing yet\n") == [f"cluster.yaml:1:1: 'context' is missing; expected {NAME_EXPECTED}"]


NAME_EXPECTED = "a name of a-z, 0-9 and '-', which begins with a letter and has at most 31 characters"


def test_a_key_can_have_a_name_of_its_own_or_no_field() -> None:
    section = Sections({Shifted: About(make=dict)}).of(Shifted)
    assert section.expected == "a section {late, at}"
    assert value_of("late: true\nat: 7", section) == {"late": True, "hour": 7}


def test_a_number_without_bounds_or_a_misspelt_option_is_a_mistake_of_the_program() -> None:
    @dataclass(frozen=True, kw_only=True, slots=True)
    class Boundless:
        count: int = field(default=1, metadata=key("How many."))

    with pytest.raises(TypeError, match="'count' is declared without its bounds"):
        value_of("{}", Sections().of(Boundless))
    with pytest.raises(TypeError, match="lowest"):
        key("How many.", lowest=1)


def test_the_schema_says_the_same() -> None:
    schema = Sections().of(Cluster).json_schema()
    assert schema["required"] == ["context"]
    assert schema["properties"]["pool"]["properties"]["machines"] == {
        "title": "machines",
        "description": "How many machines it has.",
        "type": "integer",
        "minimum": 1,
        "maximum": 9,
        "default": 1,
    }
