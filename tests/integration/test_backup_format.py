"""A backup that an earlier Instar made is restored by every later one."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from backup_home import DEV, Home, image_of

from instar.operations.restore import check_backup

pytestmark = pytest.mark.root
FORMAT_1 = Path(__file__).with_name("backup-format-1.tar.gz")


def test_format_1_is_read_for_ever(tmp_path: Path) -> None:
    file, here = tmp_path / "backup.tar", Home(tmp_path / "here")
    file.write_bytes(gzip.decompress(FORMAT_1.read_bytes()))
    (tmp_path / "check").mkdir()
    checked = check_backup(file, tuple, tmp_path / "check")
    assert checked.summary.machine == "web1 (3f2a91)" and not checked.encrypted
    assert {name: part.members for name, part in checked.parts.items()} == {
        **{"ledger": 1, "store": 5, "recordings": 1, "evidence": 1, "machine": 1}
    }
    restored = here.restore(file)
    assert restored.state_id == "0a1b2c" and image_of(here) == checked.summary.environments[0].image
    assert here.open().ledger.history(DEV)[0].actor == "ann"
