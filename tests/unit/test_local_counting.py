"""How many requests HAProxies that followed one another have answered."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from instar.model.codec import to_json
from instar.model.release import EnvironmentId
from instar.model.state import StateDirectory
from instar.process import Process
from instar.providers.local import counting
from instar.providers.router_state import Counters
from instar.router.files import RouterFiles

FIRST, SECOND = (Process(boot_id="0b", pid=pid, start_time=pid) for pid in (11, 12))
ROWS = """# pxname,svname,mode,req_tot,ereq,hrsp_5xx,econ,stot,srv_abrt,
public,FRONTEND,http,990,0,1,0,0,0,
instances,BACKEND,http,990,0,1,0,0,0,
"""
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def test_what_was_answered_before_stays_known_where_another_was_to_follow_and_did_not(tmp_path: Path) -> None:
    files = RouterFiles(StateDirectory(root=tmp_path, run=tmp_path), EnvironmentId(service="shop", name="production"))
    files.directory.mkdir(parents=True)
    counting.keep(files, FIRST, Counters(requests=800, failed=1, since=BEGAN))
    end_of_first(files)
    own = Counters(requests=10, failed=0, since=datetime(2026, 1, 2, tzinfo=UTC))
    before = counting.so_far(files, SECOND, own)
    assert (before.requests, before.failed, before.since) == (1_000, 1, BEGAN)
    for _ in range(2):  # each plan was refused
        counting.keep(files, SECOND, own)
        assert counting.so_far(files, SECOND, own) == before


def end_of_first(files: RouterFiles) -> None:
    """Have the holder of the second one written what the first one has answered until it ended."""
    assert files.answered is not None
    info = f"Pid: {FIRST.pid}\nDroppedLogs: 0\nStart_time_sec: {int(BEGAN.timestamp())}\n"
    said = {"process": to_json(FIRST), "successor": to_json(SECOND), "info": info, "statistics": ROWS}
    files.answered.write_text(json.dumps(said))
