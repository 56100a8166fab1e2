"""Which logs are shipped, whose they are, and what doctor says of it."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from instar.ledger import Ledger
from instar.model.component import Diagnosis
from instar.model.environment import Settings
from instar.model.log_stream import LogStream
from instar.model.machine import LogSettings, MachineSettings, ShipSettings
from instar.model.release import EnvironmentId
from instar.model.state import StateDirectory
from instar.operations import shipping as module
from instar.operations.shipping import as_component, shipper
from instar.shipping.progress import Shipped, keep
from instar.views.components import diagnosis_page
from instar.views.page import Table
from simulated.values import configuration, image

DEV = EnvironmentId(service="web", name="dev")


class Files:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def streams(self) -> tuple[LogStream, ...]:
        kinds = {"instance": "web-dev-1-1", "access": "web/dev"}
        return tuple(
            LogStream(kind=kind, name=name, files=(self.folder / f"{kind}.log",)) for kind, name in kinds.items()
        )  # type: ignore[arg-type]


def workspace(folder: Path, ledger: object = None, **ship: Any) -> Any:
    (folder / "instance.log").write_text("2026-01-01T00:00:00Z stdout F hello\n")
    (folder / "access.log").write_text("2026-01-01T00:00:00Z instar F (1 lines are missing here)\n")
    return SimpleNamespace(
        state=StateDirectory(folder, folder / "run"),
        machine_settings=MachineSettings(logs=LogSettings(ship=ShipSettings(**ship))) if ship else None,
        ledger=ledger,
        provider=lambda name: SimpleNamespace(log_files=Files(folder)),
    )


@pytest.mark.parametrize(
    ("what", "found"), [("all", ["hello", "(1 lines"]), ("instances", ["hello"]), ("access", ["(1 lines"])]
)
def test_the_lines_that_are_asked_for_are_shipped_with_whose_they_are(
    tmp_path: Path, what: str, found: list[str]
) -> None:
    with Ledger(tmp_path / "ledger" / "instar.db", actor="ann") as ledger:
        ledger.save_settings(DEV, Settings())
        ledger.add_release(DEV, image("one").digest, configuration())
        ledger.add_instances(DEV, 1, 1)
        out = tmp_path / "out"
        made = shipper(workspace(tmp_path, ledger, file=str(out), what=what), lambda *_: None, lambda _: None)
        assert made is not None
        while made.once():
            pass
    text = out.read_text()
    assert [word for word in ("hello", "(1 lines") if word in text] == found
    assert text.count('"service":"web","environment":"dev"') == len(found)
    assert ('"release":1,"role":null,"instance":"web-dev-1-1"' in text) == ("hello" in found)


def test_the_ledger_is_not_read_for_each_line_of_instances_that_it_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, looks = [1_000.0], list[float]()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(module, "_REMEMBERED", 2)
    with Ledger(tmp_path / "ledger" / "instar.db", actor="ann") as ledger:
        ledger.save_settings(DEV, Settings())
        ledger.add_release(DEV, image("one").digest, configuration())
        owners, read = module._Owners(ledger), ledger.readable_environments

        def counted() -> Any:
            looks.append(now[0])
            return read()

        monkeypatch.setattr(ledger, "readable_environments", counted)
        assert [owners(name) for name in ("gone-1", "gone-2", "web-dev-1-1") * 100] == [None] * 300
        assert len(looks) == 3
        ledger.add_instances(DEV, 1, 2)
        found = owners("web-dev-1-2")
        assert found is not None and found.release == 1, "one that is asked for the first time is looked up at once"
        assert owners("web-dev-1-1") is not None and len(looks) == 4
        now[0] += 10
        assert [owners(name) for name in ("gone-1", "gone-2") * 100] == [None] * 200
        assert len(looks) == 6 and set(owners._unknown) == {"gone-1", "gone-2"}
        monkeypatch.setattr(ledger, "readable_environments", lambda: ([], []))
        owners._known = {f"web-dev-0-{number}": found for number in range(5)}
        assert owners("gone-3") is None
        assert list(owners._known) == ["web-dev-0-3", "web-dev-0-4"], "the newest of those that are gone stay known"


def test_nothing_is_shipped_where_nobody_says_where_to(tmp_path: Path) -> None:
    assert shipper(workspace(tmp_path), lambda *_: None, lambda _: None) is None
    assert list(as_component(workspace(tmp_path))) == []


def test_doctor_tries_where_to_and_says_how_far_it_is(tmp_path: Path) -> None:
    here = workspace(tmp_path, socket=f"unix:{tmp_path}/s")
    (one,) = as_component(here)
    assert one.found is None and not one.required
    assert one.get.startswith(
        f"cannot send to 'unix:{tmp_path}/s': No such file or directory: 0 lines so far, none yet"
    )
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{tmp_path}/s")
        listening.listen()
        keep(here.state.shipped, Shipped(lines=1234, at="2026-01-01T00:00:00+00:00", lost_bytes=5000, behind_bytes=7))
        (one,) = as_component(here)
        assert one.found == (
            f"to socket unix:{tmp_path}/s: 1,234 lines so far, the last 2026-01-01 00:00:00 UTC; 7 bytes wait, "
            "at least 5,000 bytes lost"
        )
        keep(here.state.shipped, Shipped(cause="it takes nothing"))
        (one,) = as_component(here)
        assert one.found is None and one.get.startswith("it takes nothing: ")
        (table,) = diagnosis_page(Diagnosis(components=(one,), warnings=()))
        assert isinstance(table, Table) and table.rows[0][1] == "fails", "it is here, and refuses"
