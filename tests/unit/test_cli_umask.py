"""The umask of whoever calls: what root makes is nobody else's to write to."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CALL = """
import os, sys
from instar.cli.main import main
os.umask({before})
sys.argv = ["instar", "--version"]
try:
    main()
except SystemExit:
    print(oct(os.umask(0)))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="of root's")
@pytest.mark.parametrize(("before", "during"), [(0o000, 0o022), (0o002, 0o022), (0o022, 0o022), (0o077, 0o077)])
def test_what_root_makes_is_nobody_elses_to_write_to(before: int, during: int) -> None:
    argv = [sys.executable, "-B", "-c", CALL.format(before=before)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == oct(during)
