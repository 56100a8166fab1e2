"""What a ``.env`` file says, and what is refused in one."""

import pytest

from instar.definition.env_file import read_env_file
from instar.definition.problems import Problems


def read(text: str) -> tuple[dict[str, str], list[str]]:
    problems = Problems("a.env")
    found = read_env_file(text, problems)
    return {name: entry.value for name, entry in found.items()}, [f"{line}:{at}: {m}" for (line, at), m in problems]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b", "b"),
        ("  export A=b", "b"),
        ("A=", ""),
        ("A= ", ""),
        ("A= # nothing", ""),
        ("A=b c  # why", "b c"),
        ("A=b#c", "b#c"),
        ("A=1$", "1$"),
        ("A=a=b", "a=b"),
        (r"A=C:\new", r"C:\new"),
        ("A=''", ""),
        ("A='$HOME `x` # \\n'", "$HOME `x` # \\n"),
        (r'A="a\n\t\"\\\$B # c" # d', 'a\n\t"\\$B # c'),
        ("A=grün\r", "grün"),
        ("\ufeffA=b", "b"),
    ],
)
def test_a_line_says_a_value(line: str, value: str) -> None:
    assert read(f"# first\n\n{line}\n" if not line.startswith("\ufeff") else line) == ({"A": value}, [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A", "1:2: expected '=' after 'A'; a name alone takes no value from anywhere"),
        ("A =b", "1:2: expected '=' after 'A'; no space can stand before '='"),
        ("A= b", "1:3: no space can stand after '='"),
        ("1A=b", "1:1: expected NAME=VALUE, with a name of letters"),
        ("=b", "1:1: expected NAME=VALUE"),
        ("a-b=c", "1:1: expected NAME=VALUE"),
        ("A: b", "1:1: expected NAME=VALUE"),
        ("A=b\nA=c", "2:1: 'A' stands here twice, first in line 1"),
        ("A='b", "1:3: the quote that opens here is not closed in its line"),
        ('A="b\nc"', "1:3: the quote that opens here is not closed"),
        ("A='b'c", "1:6: nothing but a comment can follow a closing quote"),
        ("A=it's", "1:5: a quote can only stand around a whole value"),
        ("A=$HOME", "1:3: nothing is put in the place of '$NAME' here"),
        ("A=x${B}", "1:4: nothing is put in the place"),
        ("A=`id`", "1:3: nothing is put in the place"),
        ('A="a $(id)"', "1:6: nothing is put in the place"),
        (r'A="a\q"', "1:5: there is no such escape"),
        ("A=a\x00b", "1:4: expected text, found a control character"),
    ],
)
def test_anything_else_is_refused_with_line_and_column(text: str, expected: str) -> None:
    problems = read(text)[1]
    assert problems and problems[0].startswith(expected), problems


def test_the_environment_of_who_reads_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", "from outside")
    assert read("B='$A'") == ({"B": "$A"}, [])
