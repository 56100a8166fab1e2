"""Which trees of a bake are made in memory: small ones, as long as all of them together are small."""

from __future__ import annotations

from pathlib import Path

import pytest

from instar.bake.scratch import Scratch
from instar.host.kernel import memory

MIB = 1 << 20


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch) -> Scratch:
    monkeypatch.setattr(memory, "available_bytes", lambda: 1600 * MIB)
    return Scratch(Path("/nowhere"))


def test_small_trees_share_what_there_is(scratch: Scratch) -> None:
    assert [scratch.has_memory_for(size * MIB) for size in (60, 60, 40, 1)] == [True, False, True, False]
    assert scratch.has_memory_for(0)


def test_a_tree_of_unknown_size_is_made_on_the_disk(scratch: Scratch) -> None:
    assert not scratch.has_memory_for(None)
    assert scratch.has_memory_for(100 * MIB)


def test_a_large_machine_keeps_its_memory_for_what_runs_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 1 << 40)
    assert not Scratch(Path("/nowhere")).has_memory_for(1 << 30)
