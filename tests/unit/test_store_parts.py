"""What is there so far of a blob: whose it is when two come for it."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from instar.model.digest import Digest
from instar.store import Store

DATA = b"some bytes"
DIGEST = Digest.of(DATA)


def test_a_part_is_one_writers(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with store.part(DIGEST, len(DATA)) as first, store.part(DIGEST, len(DATA)) as second:
        assert first is not None and second is None


def test_a_part_that_became_a_blob_before_it_was_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, lock = Store(tmp_path / "store"), fcntl.flock

    def another_is_quicker(descriptor: int, how: int) -> None:
        monkeypatch.undo()
        with store.part(DIGEST, len(DATA)) as part:
            assert part is not None
            part.write(DATA)
            assert part.store()
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", another_is_quicker)
    with store.part(DIGEST, len(DATA)) as part:
        assert part is None
    assert store.holds_blob(DIGEST, len(DATA))
