"""Zips that nobody vouches for: what is said of their members is bounded before it is read."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from instar.ecosystems.go_hashes import hash_of
from instar.store import zipped
from instar.store.members import Malformed


def write(path: Path, members: int) -> Path:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(members):
            archive.writestr(f"member-{number}", b"x" * 100_000)
    path.write_bytes(buffer.getvalue())
    return path


def test_a_list_of_members_that_is_too_long_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 134 MiB of it Python made 1.2 GiB in more than a minute; a proxy of Go's may send sixteen times as much."""
    path = write(tmp_path / "x.zip", 100)
    read = []
    monkeypatch.setattr(zipfile.ZipInfo, "__init__", lambda self, *words, **more: read.append(words))
    monkeypatch.setattr(zipped, "LIST_LIMIT_BYTES", 5_000)
    with pytest.raises(Malformed, match="its list of members has more than the 5,000 bytes"), zipped.opened(path):
        pass
    with pytest.raises(Malformed, match="its list of members"):
        hash_of(path, "zip")
    assert read == []


def test_a_long_member_is_read_in_pieces_whatever_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.zip", 2)
    monkeypatch.setattr(zipped, "LIST_LIMIT_BYTES", 5_000)
    with zipped.opened(path) as archive:
        assert sum(map(len, zipped.chunks(archive, "member-1"))) == 100_000
