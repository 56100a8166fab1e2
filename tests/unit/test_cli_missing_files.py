"""A file that is named on the command line and cannot be read is wrong usage, whichever option names it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from instar.adopt import carry_over
from instar.cli.secrets import secrets
from instar.errors import UsageError
from instar.operations.age_files import identities_of, recipients_of
from instar.operations.maintenance import read_page
from instar.operations.restore import check_backup

READERS: dict[str, Callable[[Path, Path], object]] = {
    "backup -R": lambda missing, folder: recipients_of([], [missing]),
    "restore -i": lambda missing, folder: identities_of([missing], None, {}),
    "restore": lambda missing, folder: check_backup(missing, lambda: [], folder),
    "maintenance --page": lambda missing, folder: read_page(missing),
    "init --from": lambda missing, folder: carry_over(missing, folder, "shop"),
    "secrets encrypt": lambda missing, folder: secrets(["encrypt", str(missing)], standalone_mode=False),
}


@pytest.mark.parametrize("option", READERS)
def test_a_missing_file_is_wrong_usage(tmp_path: Path, option: str) -> None:
    with pytest.raises(UsageError, match=r"Dockerfile': [Nn]o such file") as caught:
        READERS[option](tmp_path / "Dockerfile", tmp_path)
    assert caught.value.exit_status == 64
