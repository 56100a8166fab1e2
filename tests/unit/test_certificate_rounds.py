"""In which order the agent sees to certificates, and for how long."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from instar.certificates.record import CertificateRecord
from instar.model.certificate import WantedCertificate
from instar.model.environment import Settings
from instar.model.host_names import HostNames
from instar.model.release import EnvironmentId
from instar.operations import certificate_rounds
from instar.operations.certificate_rounds import CertificateRounds
from simulated.door import SimulatedDoor
from simulated.workspace import SimulatedWorkspace

EVIL, SHOP = (EnvironmentId(service=name, name="production") for name in ("evil", "shop"))


def made(path: Path, monkeypatch: pytest.MonkeyPatch, seen: list[str]) -> tuple[CertificateRounds, Any]:
    """Return the rounds of a machine where names of one environment have failed before, and what hears of them."""
    workspace, told = SimulatedWorkspace(path), []
    for environment, names in ((EVIL, ("a.test", "b.test")), (SHOP, ("shop.test",))):
        workspace.ledger.save_settings(environment, Settings(names=HostNames(https=names)))
    rounds = CertificateRounds(workspace, SimpleNamespace(certified=told.append))  # type: ignore[arg-type]
    monkeypatch.setattr(rounds, "_shown", lambda environment, edges: SimpleNamespace(served={}))
    monkeypatch.setattr(rounds, "_withdraw", lambda names: None)

    def see_to(wanted: WantedCertificate, shown: object) -> None:
        seen.extend(wanted.names)

    monkeypatch.setattr(rounds, "_see_to", see_to)
    for name, failures in (("a.test", 9), ("b.test", 2)):
        wanted = WantedCertificate(environment=EVIL, source="acme", names=(name,))
        rounds._renewals._store.folder(wanted).note(CertificateRecord(failures=failures))
    return rounds, told


def test_what_has_not_failed_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    rounds, told = made(tmp_path, monkeypatch, seen)
    rounds.round()
    assert seen == ["shop.test", "b.test", "a.test"]
    assert len(told[0]) == 3


def test_a_round_that_takes_too_long_begins_nothing_more_and_tells_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    rounds, told = made(tmp_path, monkeypatch, seen)
    monkeypatch.setattr(certificate_rounds, "_LONGEST_ROUND_S", 0.0)
    rounds.round()
    assert seen == []
    assert len(told[0]) == 3


def test_a_name_that_nobody_has_is_shown_no_longer_unless_an_environment_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, door = SimulatedWorkspace(tmp_path), SimulatedDoor()
    monkeypatch.setattr(certificate_rounds, "doors_here", lambda workspace: (door,))
    workspace.ledger.save_settings(SHOP, Settings())
    door.serve(["shop.test"], b"chain", b"key")
    rounds = CertificateRounds(workspace, SimpleNamespace(certified=lambda found: None))  # type: ignore[arg-type]
    with sqlite3.connect(workspace.state.ledger) as connection:
        connection.execute("INSERT INTO settings SELECT environment, 2, '{\"keep\": 5}', created_at FROM settings")
    rounds.round()
    assert list(door.shown) == ["shop.test"], "it may be that environment's"
    with sqlite3.connect(workspace.state.ledger) as connection:
        connection.execute("INSERT INTO settings SELECT environment, 9, value, created_at FROM settings LIMIT 1")
    rounds.round()
    assert not door.shown
    door.close()
