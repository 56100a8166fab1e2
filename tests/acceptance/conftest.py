"""Projects for the acceptance tests. The image of their service is baked once a session; each has its own state."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from author import Author
from project import Project, baked_once, baked_project, copied_project


@pytest.fixture(scope="session")
def baked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose image is baked and was run once, so that its layers can be mounted. Only to be copied from."""
    if "PYTEST_XDIST_WORKER" in os.environ:  # several processes share the tests: the first one bakes for all
        yield baked_once(tmp_path_factory.getbasetemp().parent / "baked")
        return
    with baked_project(tmp_path_factory.mktemp("baked")) as made:
        yield made


@pytest.fixture
def project(baked: Project, tmp_path: Path) -> Iterator[Project]:
    """A project of its own, its image's steps known already. Afterwards nothing of it may be left on the machine."""
    with copied_project(baked, tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def module_project(baked: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """One like that for all tests of a file."""
    with copied_project(baked, tmp_path_factory.mktemp("module")) as made:
        yield made


@pytest.fixture
def author() -> Iterator[Author]:
    made = Author(Path(tempfile.mkdtemp(prefix="instar-author-")))
    yield made
    made.leave()
