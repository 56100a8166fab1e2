"""Projects for the acceptance tests. The image of their service is baked once a session; each has its own state."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from author import Author
from leftovers import remove_state
from project import Project, new_project


@pytest.fixture(scope="session")
def baked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose image is baked and was run once, so that its layers can be mounted. Only to be copied from."""
    folder = tmp_path_factory.mktemp("baked")
    made = new_project(folder / "hello", folder / "home")
    try:
        try:
            made.instar("deploy", "dev", timeout_s=300)
        finally:
            made.destroy_all()
        yield made
    finally:
        remove_state(made.home)


@pytest.fixture
def project(baked: Project, tmp_path: Path) -> Iterator[Project]:
    """A project of its own, its image's steps known already. Afterwards nothing of it may be left on the machine."""
    with _copied(baked, tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def module_project(baked: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """One like that for all tests of a file."""
    with _copied(baked, tmp_path_factory.mktemp("module")) as made:
        yield made


@pytest.fixture
def author() -> Iterator[Author]:
    made = Author(Path(tempfile.mkdtemp(prefix="instar-author-")))
    yield made
    made.leave()


@contextlib.contextmanager
def _copied(baked: Project, folder: Path) -> Iterator[Project]:
    made = new_project(folder / "hello", folder / "home", lock=baked.folder / "instar.lock")
    made.home.mkdir(mode=0o700)
    for name in ("store", "steps", "cache", "layers"):
        shutil.copytree(baked.home / name, made.home / name, copy_function=_link)
    yield made
    made.destroy_all()
    remove_state(made.home)


def _link(source: str, target: str) -> None:
    """Link, since nothing in a store is ever written in place; copy what is immutable and cannot be linked."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
