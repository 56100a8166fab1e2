"""The README's table of verbs: no command is left out, and none has an option that there is not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from instar.cli.main import instar

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
ROWS = re.findall(r"^\| (`.*?) \| (.*) \|$", README.partition("## The verbs")[2].partition("\n## ")[0], re.MULTILINE)
COMMANDS = set(instar.list_commands(click.Context(instar)))


def named(left: str) -> list[str]:
    """Return the commands that the left half of a row names, each with its first words."""
    return [words for words in re.findall(r"`([^`]*)`", left) if words.split()[0] in COMMANDS]


def options(command: click.Command) -> Iterator[str]:
    yield from (name for one in command.params for name in one.opts)
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            below = command.get_command(click.Context(command), name)
            assert below is not None
            yield from options(below)


def test_every_command_is_in_the_table() -> None:
    assert len(ROWS) > 20
    told = {words.split()[0] for left, _ in ROWS for words in named(left)}
    assert told == COMMANDS


@pytest.mark.parametrize(("left", "right"), ROWS)
def test_every_option_in_the_table_is_one_of_its_row(left: str, right: str) -> None:
    found = set[str]()
    for words in named(left):
        command = instar.get_command(click.Context(instar), words.split()[0])
        assert command is not None
        found |= set(options(command))
    assert set(re.findall(r"--[a-z-]+", f"{left} {right}")) <= found


def test_every_page_is_in_the_list_at_the_end() -> None:
    index = README.partition("## More")[2]
    assert [page.name for page in sorted((ROOT / "docs").glob("*.md")) if f"docs/{page.name}" not in index] == []
