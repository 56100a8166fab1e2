"""What holds for every test: where real components are needed they are there, and state is the test's own."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest

IN_CI = os.environ.get("CI") == "true"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root: scripts/test asks sudo for it"))


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


@pytest.fixture(autouse=True, scope="session")
def _no_ambient_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A test that forgets to say where its state goes gets an empty folder, never the machine's real one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSTAR_HOME", str(tmp_path_factory.getbasetemp() / "unspecified-home"))
        yield
