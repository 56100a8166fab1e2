"""The README's commands, run in their order as they stand there; only ports and sudo are the test's own."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from leftovers import remove_state
from project import INSTAR, Project, free_port

pytestmark = pytest.mark.root

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = [
    [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]
    for block in re.findall(r"^```console\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
]


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Project]:
    """An empty folder, and a state directory of its own."""
    made = Project(
        folder=tmp_path / "hello", home=tmp_path / "home", ports={"dev": free_port(), "production": free_port()}
    )
    made.folder.mkdir()
    yield made
    made.destroy_all()
    remove_state(made.home)


class Shell:
    """Runs the README's lines in one folder, one after the other."""

    def __init__(self, project: Project) -> None:
        self._project = project

    def run(self, command: str) -> str:
        for name, usual in (("dev", 8080), ("production", 8090)):
            command = command.replace(f"127.0.0.1:{usual}", f"127.0.0.1:{self._project.ports[name]}")
        result = subprocess.run(
            ["bash", "-c", f'sudo() {{ "$@"; }}; PATH="{INSTAR.parent}:$PATH"; {command}'],
            cwd=self._project.folder,
            env=self._project.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert result.returncode == 0, f"$ {command}\n{result.stderr}{result.stdout}"
        if "instar init" in command:
            self._move_ports()
        return result.stdout

    def _move_ports(self) -> None:
        definition = self._project.folder / "instar.yaml"
        text = definition.read_text()
        for name, usual in (("dev", 8080), ("production", 8090)):
            assert f"127.0.0.1:{usual}" in text, "the README's port is not the starter's"
            text = text.replace(f"127.0.0.1:{usual}", f"127.0.0.1:{self._project.ports[name]}")
        definition.write_text(text)


def test_the_first_service(empty: Project) -> None:
    first, second = BLOCKS
    shell = Shell(empty)
    for command in first:
        shell.run(command)
    page = empty.folder / "site/index.html"
    page.write_text(page.read_text() + "<p>changed</p>\n")  # what the README says between the two blocks
    seen = {command.split()[2]: shell.run(command) for command in second}
    assert {"deploy", "rollback", "promote", "history", "destroy"} <= set(seen)
    assert empty.json("status") == []


def test_every_file_that_is_linked_is_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_script_that_is_named_can_be_run() -> None:
    named = set(re.findall(r"scripts/[a-z]+", README))
    assert {"scripts/demo", "scripts/test", "scripts/setup"} <= named
    assert [name for name in named if not (ROOT / name).stat().st_mode & 0o111] == []
