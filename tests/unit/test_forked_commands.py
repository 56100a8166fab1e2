"""A command that is forked is one that was started: its words, folder, environment, what it prints and how it ends."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import forked_commands


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "INSTAR_HOME": str(tmp_path / "state")}


def test_it_has_its_own_words_folder_and_environment_and_its_status_is_told(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    (tmp_path / "instar.yaml").write_text("name: 7")
    wrong = forked_commands.run(("validate",), tmp_path, environ, timeout_s=60)
    assert wrong.returncode != 0 and "instar.yaml:1:7" in wrong.stderr, wrong
    (elsewhere := tmp_path / "elsewhere").mkdir()
    kept = forked_commands.run(("status", "--json"), elsewhere, environ, timeout_s=60)
    assert (kept.returncode, kept.stdout.strip()) == (0, "[]"), kept.stderr
    assert (tmp_path / "state").is_dir()


def test_one_that_takes_too_long_is_ended(tmp_path: Path, environ: dict[str, str]) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        forked_commands.run(("agent",), tmp_path, environ, timeout_s=1)
    again = forked_commands.run(("agent", "--once"), tmp_path, environ, timeout_s=60)
    assert again.returncode == 0, again.stderr
