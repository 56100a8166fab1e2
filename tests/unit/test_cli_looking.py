"""Whose ledger a reader is told of: their own where anything happened in it, else root's."""

from __future__ import annotations

from pathlib import Path

import pytest

from instar.cli import looking
from instar.cli.options import open_workspace
from instar.errors import NotRoot
from instar.model.happenings import SnapshotRemoved
from simulated.values import ENV


def test_an_empty_ledger_of_ones_own_hides_no_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSTAR_HOME", str(tmp_path))
    monkeypatch.setattr(looking, "_socket", lambda workspace: tmp_path / "socket")
    with open_workspace().ledger as ledger:
        assert ledger.history(None) == ()
        assert looking.asks_an_agent()
        with pytest.raises(NotRoot, match="takes root"):
            looking.require_own("verify the ledger", "instar history")
        ledger.record(SnapshotRemoved(volume="data", snapshot=1), ENV)
    assert not looking.asks_an_agent()
    looking.require_own("verify the ledger", "instar history")
