"""System calls that Python's library lacks."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from instar import syscalls

_BENEATH = 0x08  # RESOLVE_BENEATH


def test_an_error_is_the_kernels_own(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(FileNotFoundError):
            syscalls.open_below(folder, b"nothing", os.O_RDONLY, _BENEATH)
        with pytest.raises(OSError) as refused:
            syscalls.open_below(folder, b"..", os.O_RDONLY, _BENEATH)
        assert refused.value.errno == errno.EXDEV
        (tmp_path / "file").write_text("content")
        descriptor = syscalls.open_below(folder, b"file", os.O_RDONLY, _BENEATH)
        assert os.read(descriptor, 100) == b"content"
        os.close(descriptor)
    finally:
        os.close(folder)


def test_who_makes_no_call_does_not_pay_for_it() -> None:
    program = "import sys, instar.syscalls; print('ctypes' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "False\n"
