"""Fixtures of the contract suites."""

from collections.abc import Iterator

import pytest
from ledger_benches import bench, ledger
from provider_benches import BENCHES
from provider_stage import Stage

__all__ = ["bench", "ledger", "stage"]


@pytest.fixture(params=BENCHES)
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with request.param(tmp_path_factory.mktemp("home")) as bench:
        made = Stage(bench)
        try:
            yield made
        finally:
            made.clear()
