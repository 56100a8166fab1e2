"""A command on an environment knows its service from the very reader that deploy has, or from the words themselves."""

import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from instar.cli import options
from instar.cli.main import instar
from instar.cli.options import Number
from instar.definition import load
from instar.errors import DefinitionError, DefinitionUnreadable

DEFINITION = "image: {base: 'debian:bookworm'}\nservice: {command: [sleep, inf]}\n"
TWO_NAMES = f'{DEFINITION}environments:\n  dev:\n    config:\n      X: "foo\nname: victim\n"\nname: other\n'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "text",
    [
        TWO_NAMES,
        f"name: web\n{DEFINITION}",
        f'"name": "web"  # name: other\n{DEFINITION}',
        f"{DEFINITION}\nname:\n  web\n",
        f"\ufeff{DEFINITION}\nname  : 'web'\n",
        f"{{name: web, {DEFINITION.splitlines()[0]}, {DEFINITION.splitlines()[1]}}}\n",
    ],
)
def test_the_name_is_the_one_that_deploy_reads(here: Path, text: str) -> None:
    (here / "instar.yaml").write_text(text)
    name = load(Path("instar.yaml")).definition.name
    assert options.service_name(Path("instar.yaml")) == name
    assert name == ("other" if text is TWO_NAMES else "web")


def test_what_else_is_wrong_in_a_definition_keeps_nobody_from_a_rollback(here: Path) -> None:
    (here / "instar.yaml").write_text("name: web\nservice: {port: eighty}\nunknown: 1\n")
    assert options.service_name(Path("instar.yaml")) == "web"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("name: web\nname: other\n", "2:1"),
        ("name: &a web\n", "1:7"),
        ("name: [web]\n", "1:1"),
        ("name: 12\n", "1:7"),
        ("name: Web\n", "1:7"),
        ("- name: web\n", "1:1"),
        ("", "1:1"),
        ("service: {}\n", "1:1"),
        ("name: web\n---\nname: other\n", "2:1"),
    ],
)
def test_a_definition_without_one_plain_name_is_refused(here: Path, text: str, place: str) -> None:
    (here / "instar.yaml").write_text(text)
    with pytest.raises(DefinitionError, match=f"instar.yaml:{place}: ") as caught:
        options.service_name(Path("instar.yaml"))
    assert "SERVICE/ENV" in (caught.value.hint or "")


def test_no_definition_is_needed_where_the_service_is_named(here: Path) -> None:
    assert options.service_name(Path("instar.yaml")) is None
    os.mkfifo(here / "instar.yaml")
    assert options.service_beside("web/dev", Path("instar.yaml")) is None
    with pytest.raises(DefinitionUnreadable, match="not a regular file"):
        options.service_beside("dev", Path("instar.yaml"))


@pytest.mark.parametrize("target", ["/dev/zero", "/etc/passwd", "/nowhere", "other.yaml"])
def test_a_definition_that_is_a_link_is_not_followed(here: Path, target: str) -> None:
    (here / "other.yaml").write_text(f"name: web\n{DEFINITION}")
    (here / "instar.yaml").symlink_to(target)
    for reader in (options.service_name, load):
        with pytest.raises(DefinitionUnreadable, match="it is a link") as caught:
            reader(Path("instar.yaml"))
        assert "-f FILE" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "words",
    [
        "logs x/y --release {}", "logs x/y -n {}", "history -n {}", "diff x/y {}", "diff x/y 1 {}",
        "rollback x/y --to {}", "run x/y --release {} -- true", "pin x/y {}", "volumes restore x/y data {}",
        "volumes remove x/y data --snapshot {}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("number", ["99999999999999999999", "2147483648", "x", "²", "1e3", "9" * 5000])
def test_a_number_that_no_ledger_can_hold_is_wrong_usage(words: str, number: str) -> None:
    result = CliRunner().invoke(instar, words.format(number).split(), standalone_mode=False)
    assert isinstance(result.exception, click.UsageError), repr(result.exception)


def test_a_number_is_read() -> None:
    assert (Number().convert("2147483647", None, None), Number(or_none=True).convert("0", None, None)) == (
        2147483647,
        0,
    )
    with pytest.raises(click.BadParameter, match="expected a number from 1 to 2147483647, found '0'"):
        Number().convert("0", None, None)
