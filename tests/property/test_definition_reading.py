"""Whatever stands in the file, it is a definition or an error that says why."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from instar.definition import Loaded, address_forms, base_forms, forms, load, parse
from instar.definition.composed import Either, ListOf, MapOf, OneOrMore
from instar.definition.schema import DEFINITION
from instar.definition.section import Section
from instar.definition.shapes import Shape
from instar.errors import DefinitionError
from instar.model.environment import Analysis, Check, RolloutRules, RolloutStep

WORDS = [
    "x", "a b", "", "root", "debian:bookworm", "/srv", "/", "..", "500ms", "256M", "0644", "yes", "true", "null", "~",
    "8080", ":8080", "[::1]:80", "-1", "1e9", "http", "blue-green", "canary", "rolling", "manual", "header", "5%",
    "9" * 400, "é\u2028", "SIGTERM", "*.pyc",
]  # fmt: skip
SCALARS = st.sampled_from(WORDS) | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False) | st.text()
JUNK = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def like(shape: Shape) -> st.SearchStrategy[Any]:
    """What looks like ``shape``: right keys, values right and wrong."""
    if isinstance(shape, Section):
        keys = {key.name: like(key.shape) for key in shape.keys.values()}
        return st.fixed_dictionaries({}, optional=keys) | JUNK
    if isinstance(shape, ListOf | OneOrMore):
        return st.lists(like(shape.item), max_size=3) | JUNK
    if isinstance(shape, MapOf):
        return st.dictionaries(st.sampled_from(["dev", "production", "A", "1"]), like(shape.value), max_size=3) | JUNK
    if isinstance(shape, Either):
        return st.one_of(*(like(one) for one in shape.shapes))
    return SCALARS


def outcome(text: str) -> Loaded | DefinitionError:
    try:
        return parse(text, "instar.yaml")
    except DefinitionError as error:
        return error


@given(st.binary(max_size=300))
@example(b"name: \xff")
@example(b"\xef\xbb\xbfname: a")
@example(b"a: \xed\xa0\x80")
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "instar.yaml"
    file.write_bytes(data)
    with pytest.raises(DefinitionError) as raised:
        load(file)
    assert raised.value.problems


@given(st.text(alphabet="ab:-[]{}'\"|>*&!%#@`,?\\ \n\t\r\x85\u2028\ufeff0.~<", max_size=80))
@example('a: "\\ud800"')
@example("? ")
@example("&a *a : b")
@example("%YAML 9.9\n---\na")
def test_any_text_that_looks_like_yaml(text: str) -> None:
    found = outcome(text)
    assert isinstance(found, DefinitionError)
    lines = text.count("\n") + text.count("\r") + text.count("\x85") + text.count("\u2028") + 1
    assert all(1 <= problem.line <= lines and problem.column >= 1 for problem in found.problems)
    places = [(problem.line, problem.column) for problem in found.problems]
    assert places == sorted(places)


@given(like(DEFINITION))
def test_anything_in_the_shape_of_a_definition(value: Any) -> None:
    text = yaml.safe_dump(value, allow_unicode=True)
    found = outcome(text)
    if isinstance(found, DefinitionError):
        assert found.problems
        assert all(str(problem).isprintable() for problem in found.problems)


CHECKS = st.builds(
    Check, kind=st.just("http"), path=st.sampled_from(["/", "/a?b=%20"]), status=st.none() | st.integers(200, 203),
    contains=st.none() | st.sampled_from(["ok", "5", "a: b"]), timeout_ms=st.integers(1, 10**6),
) | st.builds(Check, kind=st.just("command"), command=st.just(("a", "8080"))) | st.builds(
    Check, kind=st.just("url"), url=st.just("https://a.b/c?d#e"), contains=st.none() | st.just("x"),
)  # fmt: skip
ANALYSES = st.builds(
    Analysis, min_requests=st.integers(1, 10**6), max_failed_milli=st.integers(0, 1_000),
    max_slower_milli=st.integers(1_000, 10**6), slower_than_ms=st.integers(1, 10**6), wait_ms=st.integers(1, 10**9),
    checks=st.lists(CHECKS, max_size=3).map(tuple),
)  # fmt: skip
STEPS = (
    st.lists(st.integers(1, 99), min_size=1, unique=True)
    .map(sorted)
    .flatmap(
        lambda weights: st.tuples(
            *(
                st.builds(RolloutStep, weight_percent=st.just(each), pause_ms=st.none() | st.integers(1, 10**9))
                for each in weights
            )
        )
    )
)
ROLLOUTS = (
    st.builds(RolloutRules)
    | st.builds(RolloutRules, strategy=st.just("canary"), steps=STEPS, analysis=st.none() | ANALYSES)
    | st.builds(RolloutRules, strategy=st.just("rolling"), batch=st.integers(1, 99), analysis=st.none() | ANALYSES)
)


@given(ROLLOUTS)
def test_rollouts_are_read_as_they_are_written(rollout: RolloutRules) -> None:
    environment = DEFINITION.keys["environments"].shape
    assert isinstance(environment, MapOf) and isinstance(environment.value, Section)
    written = environment.value.keys["rollout"].shape.brief(rollout)
    value = {
        "name": "a",
        "image": {"base": "debian:bookworm"},
        "service": {"command": ["a"], "port": 80},
        "environments": {"dev": {"listen": ":80", "instances": 100, "rollout": written}},
    }
    found = outcome(yaml.safe_dump(value))
    assert isinstance(found, Loaded)
    assert found.definition.environments["dev"].rollout == rollout


@given(st.integers(min_value=1, max_value=forms.LONGEST_DURATION_MS))
def test_durations_are_read_as_they_are_shown(ms: int) -> None:
    assert forms.duration(forms.show_duration(ms)) == ms


@given(st.none() | st.integers(min_value=1, max_value=forms.LONGEST_DURATION_MS))
def test_pauses_are_read_as_they_are_shown(ms: int | None) -> None:
    assert forms.pause(forms.show_pause(ms)) == ms


@given(st.integers(min_value=1, max_value=forms.LARGEST_SIZE_BYTES // 1024))
def test_sizes_are_read_as_they_are_shown(kibibytes: int) -> None:
    assert forms.size(forms.show_size(kibibytes * 1024)) == kibibytes * 1024


@given(st.text(max_size=100))
def test_forms_take_a_text_or_say_that_it_does_not_fit(text: str) -> None:
    for form in (
        forms.name, forms.variable, forms.word, base_forms.base,
        base_forms.image_of_others, base_forms.other_definition, forms.package, forms.sha256, forms.url, forms.inside,
        forms.author_path, forms.duration, forms.size, forms.mode, forms.owner, forms.user_name, forms.health_path,
        address_forms.address, address_forms.preview, forms.pause, forms.age, forms.percent,
    ):  # fmt: skip
        try:
            value = form(text)
        except forms.Misfit:
            continue
        assert not isinstance(value, str) or form(value) == value  # what a form gives is in its one form


@given(st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True), st.text(), max_size=4))
def test_configuration_survives_yaml(config: dict[str, str]) -> None:
    config = {
        name: "".join(c for c in value if c != "\0" and not "\ud800" <= c <= "\udfff") for name, value in config.items()
    }
    value = {
        "name": "a",
        "image": {"base": "debian:bookworm"},
        "service": {"command": ["a"]},
        "environments": {"dev": {"config": config}},
    }
    found = outcome(yaml.safe_dump(value, default_style='"'))
    assert isinstance(found, Loaded)
    assert found.definition.environments["dev"].config == config
    assert Path(found.file).name == "instar.yaml"
