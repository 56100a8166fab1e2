"""Who has begun to make an instance is known for ever, not by a number that another may have now."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from instar.errors import HostError
from instar.host.network.guests import Guest
from instar.host.processes import processes
from instar.ledger import Ledger
from instar.model.codec import to_json
from instar.model.state import StateDirectory
from instar.providers.local import record
from instar.providers.local.names import Names
from instar.workspace import MachineWorkspace


def test_a_folder_of_a_dead_maker_is_seen_also_when_its_number_is_used_again(tmp_path: Path) -> None:
    names = Names(StateDirectory(tmp_path, tmp_path / "run"), "abc123")
    maker = processes.identify(os.getpid())
    assert maker is not None
    boot = maker.boot_id.replace("-", "")
    mine = f".{maker.pid}.{maker.start_time}.{boot}-web-dev-1-1"
    others = {
        f".{maker.pid}.{maker.start_time + 1}.{boot}-web-dev-1-1",
        f".{maker.pid}.{maker.start_time}.{'0' * 32}-web-dev-1-1",
        f".{maker.pid}-web-dev-1-1",
    }
    for name in (mine, *others):
        (names.state.instances / name).mkdir(parents=True)
    assert set(record.all_intents(names)) == others
    record.remove_begun(names.instance("web-dev-1-1", 1))
    assert [path.name for path in names.state.instances.iterdir()] == [mine]


def test_an_id_that_nothing_carries_while_another_one_is_carried_is_damaged(tmp_path: Path) -> None:
    """Of instances that an older Instar made nobody knows: they have no links written down."""
    state = StateDirectory(tmp_path, tmp_path / "run")
    mine, other = Names(state, "abc123"), Names(state, "abcdef")
    record.require_carried(other)
    _begin(mine, 1, None)
    record.require_carried(other)
    _begin(mine, 2, mine.instance("web-dev-1-2", 2).link)
    record.require_carried(mine)
    with pytest.raises(HostError, match=r"id': it is damaged: what runs here carries abc123, and not abcdef") as caught:
        record.require_carried(other)
    assert "nothing was made or changed" in (caught.value.hint or "")
    state.id_file.write_text("abcdef\n")
    with Ledger(state.ledger, actor="ann"):
        pass
    with pytest.raises(HostError, match="it is damaged"):
        MachineWorkspace({"INSTAR_HOME": str(tmp_path)}, lambda progress: None).provider("local")


def _begin(names: Names, serial: int, link: str | None) -> None:
    one = names.instance(f"web-dev-1-{serial}", serial)
    maker = processes.identify(os.getpid())
    assert maker is not None
    guest = link and Guest(link=link, mtu=1500, mac="02", address="10.9.0.2", servers=(), environment="web/dev")
    one.folder.mkdir(parents=True)
    intent = record.Intent(id=one.name, serial=serial, maker=maker, made_at=0, guest=guest or None)
    one.intent.write_text(json.dumps(to_json(intent)))
