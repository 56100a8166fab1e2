"""Where the output goes: a full disk, a reader that has gone, a stream that was closed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from project import INSTAR


def instar(words: str, streams: str, folder: Path) -> subprocess.CompletedProcess[str]:
    script = f"{INSTAR} {words} {streams}"
    return subprocess.run(["sh", "-c", script], cwd=folder, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("words", ["schema", "--help", "--version"])
def test_a_full_disk_is_said(words: str, tmp_path: Path) -> None:
    result = instar(words, ">/dev/full", tmp_path)
    assert result.returncode == 1
    assert result.stderr == "instar: cannot go on: No space left on device\n"


def test_a_reader_that_has_gone_is_no_error_to_speak_of(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(
        [INSTAR, "schema"], stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, check=False, cwd=tmp_path
    )
    os.close(write)
    assert (result.returncode, result.stderr) == (1, "")


@pytest.mark.parametrize("streams", ["2>/dev/full", "2>&-"])
def test_what_cannot_be_told_stops_nothing(streams: str, tmp_path: Path) -> None:
    assert instar("validate", streams, tmp_path).returncode == 1
    assert instar("init", streams, tmp_path).returncode == 0
    assert instar("dploy", streams, tmp_path).returncode == 64
