"""Files that a definition names are read from beside it and from nowhere else."""

import os
from pathlib import Path

import pytest

from instar.definition.beside import read_beside


def test_a_file_below_the_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token").write_bytes(b"abc")
    assert read_beside(tmp_path, "secrets/token", 3) == b"abc"


def test_links_pipes_and_long_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "outside").symlink_to("/etc")
    (tmp_path / "passwd").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "long").write_bytes(b"1234")
    causes = {"outside/passwd": "link", "passwd": "link", "pipe": "not a regular file", "long": "larger than 3"}
    for name, cause in causes.items():
        with pytest.raises(OSError, match=cause):
            read_beside(tmp_path, name, 3)
    with pytest.raises(FileNotFoundError):
        read_beside(tmp_path, "nothing", 3)
