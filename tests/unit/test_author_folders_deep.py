"""An author's folder with folders in it that nobody could walk to the bottom of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deep_folders import nest
from instar.definition.standing import standing_on
from instar.ecosystems.maven import ECOSYSTEM as MAVEN
from instar.host.filesystems import trees
from instar.model.projects import MavenProject

STANDS = "name: web\nimage:\n  base: {image: base.yaml}\nservice: {command: [x]}\nenvironments: {dev: {}}\n"


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "deep"
    folder.mkdir()
    nest(folder, 1_200)
    yield folder
    trees.remove(folder / "d")


def test_definitions_that_stand_on_one_are_found(deep: Path) -> None:
    (deep / "base.yaml").write_text("name: base\n")
    (deep / "d/web.yaml").write_text(STANDS.replace("base.yaml", "../base.yaml"))
    assert [one.file for one in standing_on(deep / "base.yaml", deep)] == [deep / "d/web.yaml"]


def test_a_project_of_maven_is_read(deep: Path) -> None:
    (deep / "pom.xml").write_text("<project/>")
    assert MAVEN.read(deep, MavenProject(source="."), "amd64").asked is not None
