"""What holds for every test: what it needs is there, its state is its own, and nothing of it is left on the machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import leftovers
import pytest

import forking
import transactions
from postgres import PostgresServer, postgres_server

# To compile the tests, their assertions so that one that fails tells why, is most of what collecting them takes. It is
# done once, for all processes and the next run, and kept with what pytest keeps: -B would have it done each time.
sys.dont_write_bytecode = False
sys.pycache_prefix = str(Path(__file__).parents[1] / ".pytest_cache/bytecode")

IN_CI = os.environ.get("CI") == "true"
_before: set[str] = set()
_marks: set[str] = set()
_left: list[str] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root: scripts/test asks sudo for it"))


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name a test by no archive, which has the time in it: two processes would have tests of different names."""
    is_archive = isinstance(val, bytes) and (len(val) > 60 or val.startswith(b"\x1f\x8b"))
    return argname if is_archive else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI what is missing fails: a test that was skipped there has tested nothing."""
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {reason}"
    return report


def pytest_sessionstart() -> None:
    transactions.watch()
    forking.watch()
    _before.update(leftovers.present())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Note by which marks what the test has made would be known, before the test removes its state."""
    try:
        return (yield)
    finally:
        folder = getattr(item, "funcargs", {}).get("tmp_path")
        if isinstance(folder, Path):
            _marks.update(marks_below(folder))


def marks_below(folder: Path) -> Iterator[str]:
    """Yield the marks of state directories at most two folders down; other files may be called ``id`` too."""
    for depth in ("id", "*/id", "*/*/id"):
        for path in folder.glob(depth):
            if path.is_file() and path.stat().st_size == len("0a1b2c\n"):
                yield path.read_text().strip()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run when something is left. CI's machine is the run's own: there, whatever was not there before.

    Where several processes share the tests (xdist), each tells the one that runs them its marks, and that one looks.
    """
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["marks"] = sorted(_marks)
        return
    base = str(session.config._tmp_path_factory.getbasetemp())  # type: ignore[attr-defined]
    own = _marks | {f"{base}/"}
    _left.extend(
        leftovers.remaining(
            lambda: [line for line in sorted(leftovers.present() - _before) if IN_CI or any(m in line for m in own)]
        )
    )
    if _left and session.exitstatus == 0:
        session.exitstatus = 1


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take the marks of a process that has run its share of the tests; one that crashed has told none."""
    _marks.update(getattr(node, "workeroutput", {}).get("marks", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _left:
        terminalreporter.section("left behind on the machine", red=True)
        for line in _left:
            terminalreporter.write_line(line)


@pytest.fixture(autouse=True, scope="session")
def _no_ambient_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A test that forgets to say where its state goes gets an empty folder, never the machine's real one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSTAR_HOME", str(tmp_path_factory.getbasetemp() / "unspecified-home"))
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL of this run's own, started by the first test that asks for it."""
    with postgres_server() as server:
        yield server
