"""Files with holes of several volumes in one backup: nothing that one has is taken from another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from backup_home import DEV, Home, fill

from instar.model.release import EnvironmentId
from instar.operations import backup as making

pytestmark = pytest.mark.root


def test_holes_of_one_volume_cost_no_other_one_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, sizes = Home(tmp_path / "home"), {"a": 4 << 40, "b": 3 << 40, "c": (4 << 40) + 1}
    fill(home)
    for name, size in sizes.items():
        (tmp_path / name).mkdir()
        with (tmp_path / name / "sparse").open("wb") as file:
            file.truncate(size)

    class Keeper:
        @contextlib.contextmanager
        def shown(self, environment: EnvironmentId, name: str) -> Iterator[Path]:
            yield tmp_path / name

    volumes = [SimpleNamespace(environment=DEV, name=name, used_bytes=0) for name in sizes]
    local = SimpleNamespace(volumes=SimpleNamespace(snapshots=Keeper(), volumes=lambda: volumes))
    monkeypatch.setattr("instar.operations.backup_volumes.find_provider", lambda workspace, name: local)
    monkeypatch.setattr("instar.operations.backup_volumes.provider_names", lambda: ("local",))
    made = making.backup(home.open(), tmp_path / "backup.tar", keys=(), key_files=(), secrets=False, volumes=True)
    (text,) = made.lost.pop("web/dev c")
    assert made.lost == {}
    assert text == "sparse: with its holes it has 4.0 TiB, and a file with holes may have 4.0 TiB"
    empty = Home(tmp_path / "empty")
    empty.restore(tmp_path / "backup.tar", machine="new")
    for name in ("a", "b"):
        assert (empty.path / "volumes/web/dev" / name / "sparse").stat().st_size == sizes[name]
