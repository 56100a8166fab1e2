"""YAML as definitions have it: its traps closed, its errors in plain words."""

import pytest

from instar.definition import parse
from instar.definition.problems import Problems
from instar.definition.source import Listing, Mapping, Scalar, read
from instar.errors import DefinitionError


def problems_of(text: str) -> list[str]:
    with pytest.raises(DefinitionError) as raised:
        parse(text, "instar.yaml")
    return [str(problem) for problem in raised.value.problems]


def values(text: str) -> dict[str, tuple[str, str]]:
    root = read(text, Problems("x"))
    assert isinstance(root, Mapping)
    return {key: (node.kind, node.text) for key, node in root.entries.items() if isinstance(node, Scalar)}


def test_scalars_keep_the_text_that_was_written() -> None:
    text = "a: 0644\nb: 22:22\nc: yes\nd: true\ne: '8080'\nf: 1e3\ng: ~\n"
    text += "h: 2024-01-01\ni: True\nj: 0x1f\nk: .5\nl: 1_000\n"
    assert values(text) == {
        "a": ("number", "0644"),
        "b": ("text", "22:22"),
        "c": ("text", "yes"),
        "d": ("boolean", "true"),
        "e": ("text", "8080"),
        "f": ("number", "1e3"),
        "g": ("nothing", "~"),
        "h": ("text", "2024-01-01"),
        "i": ("text", "True"),
        "j": ("text", "0x1f"),
        "k": ("number", ".5"),
        "l": ("text", "1_000"),
    }


def test_every_key_and_value_has_its_place() -> None:
    root = read("é: {b: [x, 'y']}\n\nc:\n  - d: 1\n", Problems("x"))
    assert isinstance(root, Mapping)
    outer, listing = root.entries["é"], root.entries["c"]
    assert isinstance(outer, Mapping) and isinstance(listing, Listing)
    inner = outer.entries["b"]
    assert isinstance(inner, Listing)
    assert (outer.key_mark, outer.value_mark, inner.items[1].mark) == ((1, 1), (1, 4), (1, 12))
    assert (listing.key_mark, listing.value_mark) == ((3, 1), (4, 3))
    assert isinstance(listing.items[0], Mapping)
    assert listing.items[0].entries["d"].mark == (4, 8)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: a\nname: b\n", "2:1: the key 'name' stands here twice, first in line 1"),
        ("name: &x a\n", "1:7: '&x' is a YAML anchor, and there are none in a definition"),
        ("image: *x\n", "1:8: '*x' is a YAML alias, and there are none in a definition"),
        ("name: !!str a\n", "1:7: 'tag:yaml.org,2002:str' is a YAML tag"),
        ("name: a\n---\nname: b\n", "2:1: expected the end of the file, found '---'"),
        ("<<: {name: a}\n", "1:1: '<<' merges YAML aliases"),
        ("? [a]\n: b\n", "1:3: expected a key, found a list"),
        ('name: "a\\0"\n', "1:7: expected text, found an escaped NUL"),
        ("a: " + "[" * 50, "1:24: lists and sections are nested more than 20 deep here"),
    ],
)
def test_what_yaml_has_and_a_definition_has_not(text: str, expected: str) -> None:
    assert any(problem.startswith(f"instar.yaml:{expected}") for problem in problems_of(text)), problems_of(text)


def test_an_alias_bomb_is_refused_without_being_unfolded() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for new, old in zip("bcdefghi", "abcdefgh", strict=True):
        bomb += f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    assert any("is a YAML alias" in problem for problem in problems_of(bomb))


@pytest.mark.parametrize(
    ("text", "place", "meaning"),
    [
        ("image:\n\tbase: x\n", "2:1", "a tab stands here"),
        ("a: [*.pyc]\n", "1:6", "begins with '*' must be in quotes"),
        ("a: @home\n", "1:4", "begins with '@' must be in quotes"),
        ("a: 'abc\nb: c\n", "1:4", "the quote that opens in line 1 is never closed"),
        ("a: [1, 2\nb: 3\n", "2:2", "the list that opens with '[' in line 1"),
        ("a: {x: 1\nb: 3\n", "2:2", "the section that opens with '{' in line 1"),
        ("a: b: c\n", "1:5", "a ': ' cannot stand here"),
        ("a:\n  b: 1\n c: 2\n", "3:2", "the indentation does not fit"),
        ("a: 'it's'\n", "1:8", "nothing can follow a closing quote"),
        ("a: [::1]:80\n", "1:5", "begins a text that must be in quotes"),
        ("a: 1\nfoo\nb: 2\n", "2:1", "expected 'key: value'"),
        ("a: - x\n", "1:4", "a list cannot begin here"),
        ('a: "\\q"\n', "1:5", "unknown escape"),
        ("a: [", "1:5", "is never closed"),
    ],
)
def test_a_syntax_error_is_explained(text: str, place: str, meaning: str) -> None:
    [problem] = problems_of(text)
    assert problem.startswith(f"instar.yaml:{place}: cannot read this as YAML: ")
    assert meaning in problem


def test_problems_before_a_syntax_error_are_told_too() -> None:
    first, second = problems_of("a: &x b\nc: @d\n")
    assert "YAML anchor" in first and "begins with '@'" in second


def test_characters_that_no_text_has_are_pointed_at() -> None:
    assert problems_of("a: b\nc: \x07\n") == [
        "instar.yaml:2:4: expected text, found the character U+0007, which YAML does not allow; remove it"
    ]
    assert problems_of("name\0") == ["instar.yaml:1:5: expected text, found a NUL byte; is this really a YAML file?"]


def test_rubbish_is_refused_quickly_and_in_measure() -> None:
    problems = problems_of("".join(f"key{number}: x\n" for number in range(50_000)))
    assert len(problems) == 100
