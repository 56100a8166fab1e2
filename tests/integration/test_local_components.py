"""What doctor tries on this machine, and what a try that was killed leaves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from instar.host.kernel import mounts, namespaces
from instar.host.processes import processes
from instar.providers.local.components import _clear_tries, components

pytestmark = pytest.mark.root


def test_what_a_killed_try_left_is_cleared_and_a_living_one_is_not(tmp_path: Path) -> None:
    here = processes.identify(os.getpid())
    assert here is not None
    mine, dead = f"instar-try-{here.pid}-{here.start_time}", f"instar-try-{here.pid}-1"
    try:
        for name in (mine, dead):
            namespaces.make_network(name)
            (tmp_path / f"{name}-room").mkdir()
            mounts.mount_tmpfs(tmp_path / f"{name}-room", size_bytes=4096)
        _clear_tries(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [f"{mine}-room"]
        assert mine in namespaces.names("instar-try-")
        assert dead not in namespaces.names("instar-try-")
    finally:
        mounts.unmount_all(tmp_path)
        for name in (mine, dead):
            namespaces.drop_network(name)


def test_an_older_kernel_is_asked_for_loop_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {kernel: _names(monkeypatch, kernel) for kernel in ((6, 1), (6, 12))}
    assert asked[6, 1] - asked[6, 12] == {"loop devices"}


def _names(monkeypatch: pytest.MonkeyPatch, kernel: tuple[int, int]) -> set[str]:
    monkeypatch.setattr(mounts, "_kernel", lambda: kernel)
    return {component.name for component in components()}
