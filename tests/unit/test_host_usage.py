"""What a group uses, as each version of cgroups says it, and what links have carried."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from instar.host.kernel import cgroups
from instar.host.kernel.cgroups import Hierarchy
from instar.host.kernel.group_usage import GroupUsage, usage
from instar.host.network.traffic import traffic

V1 = {
    "cpuacct": {"cpuacct.usage": "1234567890\n"},
    "memory": {
        "memory.usage_in_bytes": "5000000\n",
        "memory.limit_in_bytes": "268435456\n",
        "memory.stat": "cache 2500000\ninactive_file 1\ntotal_cache 2500000\ntotal_inactive_file 2000000\n",
        "cgroup.procs": "11\n12\n",
    },
}
V2 = {
    "cpu.stat": "usage_usec 1234567\nuser_usec 1000000\n",
    "memory.current": "5000000\n",
    "memory.max": "268435456\n",
    "memory.stat": "anon 2500000\ninactive_file 2000000\n",
    "cgroup.procs": "11\n12\n",
}
ALL = GroupUsage(time_us=1_234_567, memory_bytes=3_000_000, cache_bytes=2_000_000, limit_bytes=256 << 20, processes=2)


def group(folder: Path, files: dict[str, str]) -> None:
    (folder / "instar-abc/one").mkdir(parents=True)
    for name, text in files.items():
        (folder / "instar-abc/one" / name).write_text(text)


def v1(tmp_path: Path) -> list[Hierarchy]:
    """Beside an empty v2, as on a hybrid machine."""
    for name, files in V1.items():
        group(tmp_path / name, files)
    group(tmp_path / "unified", {"cgroup.procs": "11\n12\n"})
    named = [Hierarchy(mount=tmp_path / name, controllers=frozenset({name}), unified=False) for name in V1]
    return [Hierarchy(mount=tmp_path / "unified", controllers=frozenset(), unified=True), *named]


def v2(tmp_path: Path) -> list[Hierarchy]:
    group(tmp_path / "v2", V2)
    return [Hierarchy(mount=tmp_path / "v2", controllers=frozenset(), unified=True)]


@pytest.fixture(params=[v1, v2])
def mounted(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Hierarchy]:
    found: list[Hierarchy] = request.param(tmp_path)
    monkeypatch.setattr(cgroups, "hierarchies", lambda: tuple(found))
    return found


def test_both_versions_say_the_same(mounted: list[Hierarchy]) -> None:
    assert usage("instar-abc/one") == ALL


def test_of_a_group_that_is_gone_nothing_is_known(mounted: list[Hierarchy]) -> None:
    assert usage("instar-abc/two") == GroupUsage()


def test_a_group_without_a_limit_has_none(mounted: list[Hierarchy]) -> None:
    for one in mounted:
        for name, unlimited in (("memory.max", "max\n"), ("memory.limit_in_bytes", "9223372036854771712\n")):
            if (file := one.mount / "instar-abc/one" / name).exists():
                file.write_text(unlimited)
    found = usage("instar-abc/one")
    assert (found.limit_bytes, found.memory_bytes) == (None, 3_000_000)


def test_what_the_keeper_does_is_no_process_of_the_group(mounted: list[Hierarchy]) -> None:
    for one in mounted:
        keeper = one.mount / "instar-abc/one/keeper"
        keeper.mkdir()
        (keeper / "cgroup.procs").write_text("99\n")
    assert usage("instar-abc/one").processes == 2


def test_without_any_hierarchy_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "hierarchies", tuple)
    assert usage("instar-abc/one") == GroupUsage()


def test_links_say_what_went_through_them() -> None:
    before, payload = traffic()["lo"], bytes(50_000)
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()) as out:
        out.sendall(payload)
        with listening.accept()[0] as taken:
            assert len(taken.recv(len(payload), socket.MSG_WAITALL)) == len(payload)
    after = traffic()["lo"]
    assert after.received_bytes - before.received_bytes >= len(payload)
    assert after.sent_bytes - before.sent_bytes >= len(payload)
