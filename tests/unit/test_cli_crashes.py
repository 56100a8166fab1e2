"""What nobody foresaw is one line, and a file for root; never a traceback on the screen."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from instar.cli import crashes
from instar.cli import main as door

_BREAK = """
import sys, {imports}
from instar.cli import main as door
def broken(*a, **k):
    {statement}
door.instar.main = broken
sys.argv = ["instar", "status"]
door.main()
"""


def broken(statement: str, home: Path, imports: str = "os") -> subprocess.CompletedProcess[str]:
    code = _BREAK.format(statement=statement, imports=imports)
    return subprocess.run(
        [sys.executable, "-c", code], env={"INSTAR_HOME": str(home), "TMPDIR": str(home.parent)}, text=True,
        capture_output=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("statement", "shown"),
    [
        ("raise KeyError('some\\nthing \\x1b[31m')", "KeyError: 'some\\nthing \\x1b[31m'"),
        ("int('9' * 5000)", "ValueError: Exceeds the limit"),
        ("json.loads('[' * 100000)", "RecursionError"),
        ("raise MemoryError", "there is not enough memory"),
        ("raise AssertionError('x' * 10000)", "xxx…"),
    ],
)
def test_an_error_that_nobody_foresaw_is_one_line_with_its_details_elsewhere(
    tmp_path: Path, statement: str, shown: str
) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    done = broken(statement, home, imports="json")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    line, hint = done.stderr.splitlines()
    assert line.startswith("instar: cannot go on: an unexpected error occurred (")
    assert shown in line
    assert len(line) < 300
    (kept,) = (home / "crashes").iterdir()
    assert str(kept) in hint
    assert kept.stat().st_mode & 0o777 == 0o600
    assert "Traceback" in kept.read_text()
    assert "arguments: ['status']" in kept.read_text()


def test_without_a_state_directory_the_details_go_to_a_temporary_folder_and_none_is_made(tmp_path: Path) -> None:
    done = broken("1 / 0", tmp_path / "none")
    (kept,) = tmp_path.glob("crash-*")
    assert str(kept) in done.stderr
    assert kept.stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "none").exists()


def test_only_the_newest_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSTAR_HOME", str(tmp_path))
    for number in range(crashes.KEPT + 5):
        crashes.report(ValueError(str(number)))
    assert len(list((tmp_path / "crashes").iterdir())) == crashes.KEPT


def test_threads_and_finalizers_are_told_of_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INSTAR_HOME", str(tmp_path))
    for name in ("excepthook", "unraisablehook"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    crashes.install_hooks()

    class Last:
        def __del__(self) -> None:
            raise ValueError("at the end")

    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    Last()
    told = capfd.readouterr().err
    assert "ZeroDivisionError" in told
    assert "at the end" in told
    assert "Traceback" not in told


def test_what_is_expected_is_told_as_before(capfd: pytest.CaptureFixture[str]) -> None:
    assert door._status_of(FileNotFoundError(2, "No such file or directory", "/x")) == 1
    assert "cannot go on: No such file or directory '/x'" in capfd.readouterr().err
    assert door._status_of(KeyboardInterrupt()) == 130


@pytest.mark.parametrize(
    ("words", "status"),
    [(["explain", "dev"], 0), (["logs", "dev", "-f"], 0), (["deploy", "dev"], 1), (["drift"], 1), ([], 1)],
)
def test_who_reads_no_more_has_had_enough_of_what_only_shows(
    words: list[str], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door.sys, "argv", ["instar", *words])
    assert door._status_of(BrokenPipeError()) == status
