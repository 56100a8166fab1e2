"""Backup and restore killed at each thing that they do to the world, as processes."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from backup_home import KEY, Home, fill, image_of

from instar.errors import InstarError
from instar.operations.restore import check_backup

pytestmark = [pytest.mark.root, pytest.mark.thorough]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    fill(made)
    return made


def test_a_backup_that_is_killed_anywhere_is_whole_or_not_there(home: Home, tmp_path: Path) -> None:
    file, count, recipient = tmp_path / "backup.age", tmp_path / "count", str(KEY.to_public())
    before = home.files()
    for at in range(1, 500):
        status = home.command("backup", "-r", recipient, str(file), killed_at=at, count=count)
        if file.exists():
            (tmp_path / f"check{at}").mkdir()
            check_backup(file, lambda: [KEY], tmp_path / f"check{at}")
            file.unlink()
        assert home.files() == before or any(name.startswith(".backup") for name in home.files())
        if status != -signal.SIGKILL:
            break
    assert status == 0 and at > 10
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert home.files() == before


def test_a_restore_that_is_killed_anywhere_goes_on(home: Home, tmp_path: Path) -> None:
    encrypted = tmp_path / "backup.age"
    home.back_up(encrypted)
    image, identity = image_of(home), tmp_path / "identity"
    identity.write_text(f"{KEY}\n")
    identity.chmod(0o600)
    for at in range(1, 500):
        empty = Home(tmp_path / f"empty{at}")
        words = ("restore", "-i", str(identity), "--machine", "new", "--machine-file", str(encrypted))
        status = empty.command(*words, killed_at=at, count=tmp_path / "count")
        if status != -signal.SIGKILL:
            break
        _is_nothing_or_whole(empty)
        assert empty.command(*words) in (0, 1)
        assert image_of(empty) == image
        assert [path.name for path in empty.path.iterdir() if path.name.startswith(".restore")] == []
    assert status == 0 and at > 20


def _is_nothing_or_whole(empty: Home) -> None:
    """Nothing that looks like a state directory is there, no command works with it, or it is all there."""
    if not (empty.path / "ledger").exists() and not (empty.path / ".restore").exists():
        return
    try:
        assert image_of(empty) is not None
    except InstarError as error:
        assert "a restore is not done with it" in str(error)
        return
