"""Whoever may change the code that root runs is as good as root: doctor says so."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import instar
from instar.operations import installation

pytestmark = pytest.mark.root


@pytest.fixture
def copy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installation of root's own, with a clone in it."""
    with tempfile.TemporaryDirectory(prefix="instar-installed-") as name:
        root = Path(name)
        root.chmod(0o755)
        package = root / "clone" / "src" / "instar"
        (package / "cli").mkdir(parents=True)
        (package / "cli" / "main.py").write_text("")
        program = root / "clone" / "instar"
        program.write_text("")
        monkeypatch.setattr(instar, "__path__", [str(package)])
        monkeypatch.setattr(sys, "argv", [str(program)])
        monkeypatch.setattr(sys, "prefix", str(root))
        monkeypatch.setattr(sys, "executable", str(program))
        monkeypatch.setattr(sys, "path", [str(package.parent)])
        yield root / "clone"


def test_a_copy_of_roots_own_is_well(copy: Path) -> None:
    assert installation.warnings() == ()


@pytest.mark.parametrize("part", [".", "src", "src/instar", "src/instar/cli", "src/instar/cli/main.py", "instar"])
def test_a_part_that_is_somebody_elses_is_told(copy: Path, part: str) -> None:
    path = copy / part
    os.chown(path, 54321, 54321)
    (told,) = installation.warnings()
    assert f"'{path.resolve()}', which user 54321 may change" in told
    assert "/opt/instar" in told
    os.chown(path, 0, 0)
    path.chmod(0o777)
    assert "which everybody may change" in installation.warnings()[0]
    path.chmod(0o775)
    assert installation.warnings() == (), "root's own group"
    os.chown(path, 0, 54321)
    path.chmod(0o775)
    assert "which group 54321 may change" in installation.warnings()[0]
