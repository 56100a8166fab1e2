"""The room of a volume with a size: never more than the disk has."""

from __future__ import annotations

from pathlib import Path

import pytest

from instar.errors import HostError
from instar.host.filesystems import sized


def test_more_than_the_disk_has_is_refused_before_anything_is_taken(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    with pytest.raises(HostError, match=r"it takes \d+ MiB more, \d+ MiB are free") as caught:
        sized.attach(folder, 1 << 60)
    assert "service.volumes" in (caught.value.hint or "")
    assert not sized.has_limit(folder) and not list(tmp_path.glob("*.new"))
