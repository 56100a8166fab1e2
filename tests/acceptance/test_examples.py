"""Every example is valid and locked; those that scripts/demo does not show are deployed as they stand."""

from __future__ import annotations

import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from author import Author
from leftovers import remove_state
from project import Project, free_port

pytestmark = pytest.mark.root

EXAMPLES = sorted(path.parent for path in (Path(__file__).resolve().parents[2] / "examples").glob("*/instar.yaml"))
DEPLOYED = {"static-nginx": "nginx", "flask": "release 1", "binary": "C program", "orders": "release 1"}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_it_is_valid_and_its_lock_fits(example: Path, author: Author) -> None:
    folder = author.folder / example.name
    shutil.copytree(example, folder)
    if (folder / "Makefile").exists():
        subprocess.run(["make", "--silent"], cwd=folder, check=True)
    for secret in re.findall(r"\{file: (secrets/\w+)\}", (folder / "instar.yaml").read_text()):
        (folder / secret).parent.mkdir(exist_ok=True)
        (folder / secret).write_text("for this test")
    result = author.instar("validate", "--file", str(folder / "instar.yaml"))
    assert result.returncode == 0, result.stderr
    assert "its lock fits" in result.stdout


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    made = tmp_path / "home"
    yield made
    remove_state(made)


@pytest.mark.long
def test_they_are_deployed_as_they_stand(home: Path, tmp_path: Path) -> None:
    """One state directory for all, so that what they have in common is fetched and baked once."""
    projects = []
    for name, answer in DEPLOYED.items():
        folder = tmp_path / name
        shutil.copytree(next(example for example in EXAMPLES if example.name == name), folder)
        if (folder / "Makefile").exists():
            subprocess.run(["make", "--silent"], cwd=folder, check=True)
        project = Project(folder=folder, home=home, ports={"dev": free_port()})
        listen = next(line for line in (folder / "instar.yaml").read_text().splitlines() if " listen: " in line)
        first, *others = re.findall(r"127\.0\.0\.1:\d+", listen)
        for usual, port in ((first, project.ports["dev"]), *((other, free_port()) for other in others)):
            project.edit(usual, f"127.0.0.1:{port}")
        projects.append(project)
        project.instar("deploy", "dev", timeout_s=300)
        with urllib.request.urlopen(project.url(path="/"), timeout=10) as served:
            assert answer in served.read().decode()
    for project in projects:
        project.instar("destroy", "dev", "--yes")
    projects[0].destroy_all()
