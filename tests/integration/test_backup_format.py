"""A backup that an earlier Instar made is restored by every later one."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from backup_home import DEV, Home, image_of

from instar.errors import BackupDamaged
from instar.operations.restore import check_backup

pytestmark = pytest.mark.root
FORMAT_1, FORMAT_3 = (Path(__file__).with_name(f"backup-format-{number}.tar.gz") for number in (1, 3))


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


def test_format_3_is_read_for_ever(tmp_path: Path) -> None:
    """Its parts are hashed with the zeros that holes are."""
    file, here = tmp_path / "backup.tar", Home(tmp_path / "here")
    data = gzip.decompress(FORMAT_3.read_bytes())
    file.write_bytes(data)
    checked = check_backup(file, tuple, tmp_path)
    assert checked.summary.format == 3 and checked.parts["volumes"].size_bytes == (12 << 20) + 11
    (tmp_path / "instar.db").unlink()
    here.restore(file)
    volume = here.path / "volumes/web/dev/data"
    whole = bytearray((9 << 20) + 5)
    whole[1 << 20 : (1 << 20) + 5], whole[5 << 20 : (5 << 20) + 12_000] = b"first", b"second" * 2_000
    assert (volume / "holes").read_bytes() == whole and (volume / "nothing").read_bytes() == bytes((3 << 20) + 1)
    assert (volume / "holes").stat().st_blocks * 512 < 1 << 20
    assert (volume / "plain").read_bytes() == b"plain" and (volume / "link").readlink() == Path("plain")
    for before, after in ((b"secondsecond", b"sacondsecond"), (b"\n5242880\n", b"\n4194304\n")):
        assert before in data
        file.write_bytes(data.replace(before, after, 1))
        with pytest.raises(BackupDamaged):
            check_backup(file, tuple, tmp_path)
        (tmp_path / "instar.db").unlink()
