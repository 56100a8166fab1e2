"""Backups that somebody else made, whose ledger is missing, or is there twice."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from backup_home import Home, fill

from instar.backup import reading, writing
from instar.backup.contents import LEDGER
from instar.backup.writing import Member
from instar.errors import BackupDamaged
from instar.operations.restore import check_backup

pytestmark = pytest.mark.root


def made_of(plain: Path, file: Path, ledgers: int) -> None:
    """Make a backup of all that is in another, with the ledger so often."""

    def members() -> Iterable[Member]:
        for entry, content in backup.members():
            data = b"".join(piece for _, piece in content)
            for _ in range(ledgers if entry.name == LEDGER else 1):
                yield Member(entry, lambda data=data: [data])  # type: ignore[misc]

    with reading.opened(plain, tuple) as backup:
        writing.write(file, backup.summary, members(), ())


@pytest.mark.parametrize(("ledgers", "why"), [(0, "its ledger is missing"), (2, "its ledger is there twice")])
def test_a_backup_has_one_ledger(tmp_path: Path, ledgers: int, why: str) -> None:
    home, empty = Home(tmp_path / "home"), Home(tmp_path / "empty")
    fill(home)
    home.back_up(tmp_path / "plain.tar", secrets=False)
    made_of(tmp_path / "plain.tar", tmp_path / "bad.tar", ledgers)
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(BackupDamaged, match=why):
        check_backup(tmp_path / "bad.tar", tuple, folder)
    with pytest.raises(BackupDamaged, match=why):
        empty.restore(tmp_path / "bad.tar", machine="new")
    assert not (empty.path / "ledger").exists()
