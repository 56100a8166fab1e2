"""Files that a definition names are read from beside it and from nowhere else."""

import os
import tempfile
from pathlib import Path

import pytest

from instar.definition import load, load_name
from instar.definition.author_files import (
    has_author_file,
    open_author_file,
    read_author_file,
    why_unusable,
    write_author_file,
)
from instar.errors import InstarError
from instar.fetch.requirements import read_requirements
from instar.lock.file import read as read_lock


def test_a_file_below_the_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token").write_bytes(b"abc")
    assert read_author_file(tmp_path, "secrets/token", 3) == b"abc"


def test_links_pipes_and_long_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "outside").symlink_to("/etc")
    (tmp_path / "passwd").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "long").write_bytes(b"1234")
    causes = {"outside/passwd": "link", "passwd": "link", "pipe": "not a regular file", "long": "larger than 3"}
    for name, cause in causes.items():
        with pytest.raises(OSError, match=cause):
            read_author_file(tmp_path, name, 3)
    with pytest.raises(FileNotFoundError):
        read_author_file(tmp_path, "nothing", 3)


def test_what_is_there_is_found_without_following_it(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder").mkdir()
    (tmp_path / "way").symlink_to("folder")
    assert has_author_file(tmp_path, "dangling")
    assert has_author_file(tmp_path, "way/anything"), "reading it says that it leads through a link"
    assert not has_author_file(tmp_path, "folder/nothing")
    assert not has_author_file(tmp_path, "nothing/at/all")


def test_why_a_file_could_not_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    assert why_unusable(tmp_path, "file") is None
    assert why_unusable(tmp_path, "link") == "'link' cannot be read: it is a link; put a copy of the file in its place"
    assert why_unusable(tmp_path, "pipe") == "'pipe' cannot be read: it is not a regular file"
    assert why_unusable(tmp_path, "nothing") == "there is no 'nothing' beside it"


def test_a_new_file_goes_through_no_link_and_over_nothing(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir(), there.mkdir()
    (here / "site").symlink_to(there)
    (here / "file").symlink_to(there / "file")
    with pytest.raises(OSError, match="it is a link"):
        write_author_file(here, "site/index.html", b"x")
    with pytest.raises(FileExistsError):
        write_author_file(here, "file", b"x")
    write_author_file(here, "a/b/c", b"x")
    assert (here / "a/b/c").read_bytes() == b"x"
    assert not list(there.iterdir())


@pytest.mark.root
def test_under_sudo_what_is_made_belongs_to_the_owner_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_UID", "12345")
    os.chown(tmp_path, 12345, 12346)
    write_author_file(tmp_path, "site/index.html", b"x")
    for path in (tmp_path / "site", tmp_path / "site/index.html"):
        assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12346)


@pytest.mark.root
@pytest.mark.parametrize(
    ("mode", "owner", "folder_owner", "sudo", "quoted"),
    [
        (0o600, 0, 0, None, True),  # root's own, for root
        (0o600, 0, 0, 12345, False),  # root's, for who called sudo
        (0o644, 0, 0, 12345, True),  # everybody's
        (0o600, 0, 12345, None, False),  # a second name of root's file in a folder of somebody's
        (0o600, 12345, 12345, 12345, True),  # their own
        (0o600, 12345, 12345, None, True),
        (0o604, 12345, 12346, None, True),
        (0o640, 12345, 12346, None, False),
    ],
)
def test_a_file_is_quoted_to_whoever_could_read_it(
    monkeypatch: pytest.MonkeyPatch, mode: int, owner: int, folder_owner: int, sudo: int | None, quoted: bool
) -> None:
    with tempfile.TemporaryDirectory(prefix="instar-beside-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        os.chown(folder, folder_owner, folder_owner)
        (folder / "file").write_text("x")
        (folder / "file").chmod(mode)
        os.chown(folder / "file", owner, owner)
        monkeypatch.delenv("SUDO_UID", raising=False)
        if sudo is not None:
            monkeypatch.setenv("SUDO_UID", str(sudo))
        assert open_author_file(folder, "file", 10).may_be_quoted is quoted
        folder.chmod(0o700)
        if sudo is not None and sudo != folder_owner:
            assert not open_author_file(folder, "file", 10).may_be_quoted, "they could not get there"


@pytest.mark.root
def test_messages_repeat_nothing_that_only_root_may_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_UID", "12345")
    for name in ("instar.yaml", "instar.lock", "requirements.txt"):
        (tmp_path / name).write_text("root:$y$CANARY: \x01 CANARY\n")
        (tmp_path / name).chmod(0o600)
    readers = (
        lambda: load(tmp_path / "instar.yaml"),
        lambda: load_name(tmp_path / "instar.yaml"),
        lambda: read_lock(tmp_path / "instar.lock"),
        lambda: read_requirements(tmp_path, "requirements.txt"),
    )
    for reader in readers:
        with pytest.raises(InstarError) as caught:
            reader()
        assert "CANARY" not in str(caught.value)
        assert "only root may read it" in str(caught.value)
        assert caught.value.__context__ is None or caught.value.__suppress_context__
    (tmp_path / "requirements.txt").write_text("-e CANARY\n")
    monkeypatch.delenv("SUDO_UID")
    with pytest.raises(InstarError, match="wheel cannot be locked"):
        read_requirements(tmp_path, "requirements.txt")
