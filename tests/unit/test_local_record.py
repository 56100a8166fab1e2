"""Who has begun to make an instance is known for ever, not by a number that another may have now."""

from __future__ import annotations

import os
from pathlib import Path

from instar.host import processes
from instar.model.state import StateDirectory
from instar.providers.local import record
from instar.providers.local.names import Names


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
