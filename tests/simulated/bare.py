"""A workspace for the functions that write a decision: a ledger and a provider, and a store of one image."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from instar.cancellation import Cancellation
from instar.model.progress import silent
from instar.model.state import StateDirectory
from instar.providers.base import Provider
from simulated.effects import CrashableLedger
from simulated.guard import guarded
from simulated.values import image


def bare_workspace(provider: Provider, ledger: CrashableLedger, home: Path) -> Any:
    """Return one whose ``provider`` is called inside no transaction."""
    alone = guarded(provider, ledger.require_none_open)
    return SimpleNamespace(
        ledger=ledger,
        provider=lambda name: alone,
        actor="tester",
        machine="here",
        report=silent,
        cancellation=Cancellation(),
        store=SimpleNamespace(image=lambda digest: image()),
        state=StateDirectory(home / "state", home / "run"),
    )
