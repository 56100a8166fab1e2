"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from instar import durable


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_file_is_replaced_with_its_mode_whatever_the_umask_and_nothing_else_is_left(tmp_path: Path) -> None:
    path, before = tmp_path / "file", os.umask(0o777)
    try:
        durable.write(path, b"one", mode=0o644)
        durable.write(path, b"the other", lasting=False)
    finally:
        os.umask(before)
    assert path.read_bytes() == b"the other" and mode(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_written_once_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert durable.write_once(path, b"one", mode=0o640)
    assert not durable.write_once(path, b"the other")
    assert path.read_bytes() == b"one" and mode(path) == 0o640 and path.stat().st_nlink == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_in_its_place_is_replaced_and_what_it_leads_to_is_not_written_to(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "file"
    victim.write_text("as it was")
    path.symlink_to(victim)
    assert not durable.write_once(path, b"mine")
    durable.write(path, b"mine")
    assert victim.read_text() == "as it was" and path.read_bytes() == b"mine" and not path.is_symlink()
    with pytest.raises(OSError):
        (tmp_path / "made").symlink_to(victim)
        durable.move(tmp_path / "made", path)


def test_what_fails_leaves_what_there_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    durable.write(path, b"one")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        durable.write(path, b"the other")
    assert path.read_bytes() == b"one" and list(tmp_path.iterdir()) == [path]


def test_a_writer_that_is_killed_anywhere_leaves_a_whole_file(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from instar import durable\n"
        "number = 0\n"
        "while True:\n"
        "    number += 1\n"
        "    durable.write(Path(sys.argv[1]), b'%d ' % number * 100_000, lasting=False)\n"
        "    print(flush=True)\n"
    )
    path = tmp_path / "file"
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            for _ in range(3):
                assert writer.stdout.readline()
            writer.send_signal(signal.SIGKILL)
        words = path.read_text().split()
        assert len(words) == 100_000 and len(set(words)) == 1
    assert {one for one in tmp_path.iterdir() if one != path} == set(durable.leftovers(tmp_path))


def test_a_finished_file_gets_its_name(tmp_path: Path) -> None:
    made, path = tmp_path / "room", tmp_path / "file"
    made.write_text("made")
    path.write_text("before")
    durable.move(made, path)
    assert path.read_text() == "made" and not made.exists()
