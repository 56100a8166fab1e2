"""A chroot is seen for one: a command that joins an instance's mounts from there would run outside of both."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from instar.host.isolation import chroots

pytestmark = pytest.mark.root
SAYS = "from instar.host.isolation.chroots import is_chrooted; print(is_chrooted())"


@pytest.mark.parametrize(
    ("enter", "expected"),
    [
        ('mount --rbind / "$0" && exec chroot "$0" "$@"', "True"),
        ('mount --rbind / "$0" && cd "$0" && pivot_root . . && umount -l . && exec "$@"', "False"),
        ('exec "$@"', "False"),
    ],
)
def test_a_chroot_is_told_from_a_root_of_ones_own(enter: str, expected: str, tmp_path: Path) -> None:
    asked = ["unshare", "--mount", "sh", "-c", enter, str(tmp_path), sys.executable, "-c", SAYS]
    assert subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip() == expected


def test_the_tests_run_in_none() -> None:
    assert not chroots.is_chrooted()
