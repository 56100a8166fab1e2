"""Archives with sparse files, and those of Unix version 7, as GNU tar makes them; maps that lead astray."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from instar.store.header import BLOCK
from instar.store.members import Malformed, Members, Stream, begins_tar

FORMS = {
    "old": ["--format=gnu", "--sparse"],
    "pax 0.1": ["--format=posix", "--sparse", "--sparse-version=0.1"],
    "pax 1.0": ["--format=posix", "--sparse", "--sparse-version=1.0"],
}
LIMIT = 1 << 24


def holey(path: Path, pieces: int) -> bytes:
    """Write a file with holes before, between and after its pieces."""
    with path.open("wb") as file:
        for number in range(pieces):
            file.seek(65_536 + number * 131_072)
            file.write(f"piece {number}".encode() * 700)
        file.truncate(65_536 + pieces * 131_072 + 5)
    return path.read_bytes()


def packed(folder: Path, *words: str) -> bytes:
    names = sorted(path.name for path in folder.iterdir())
    command = [
        "tar",
        "--create",
        "--owner=0",
        "--group=0",
        "--mtime=@0",
        *words,
        "--directory",
        str(folder),
        "--",
        *names,
    ]
    return subprocess.run(command, check=True, capture_output=True).stdout


def read(data: bytes, *, limit: int | None = LIMIT) -> dict[bytes, bytes]:
    members = Members(Stream(iter([data]), limit_bytes=1 << 26), marked_end=True, sparse_limit_bytes=limit)
    found = {}
    for entry in members:
        found[entry.name] = b"".join(members.content())
        assert len(found[entry.name]) == entry.size
    return found


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("pieces", [1, 3, 60])
def test_holes_are_zeros(tmp_path: Path, form: str, pieces: int) -> None:
    content = holey(tmp_path / "disk", pieces)
    (tmp_path / "zz").write_bytes(b"after")
    data = packed(tmp_path, *FORMS[form])
    assert len(data) < len(content)
    assert read(data) == {b"disk": content, b"zz": b"after"}


@pytest.mark.parametrize("form", FORMS)
def test_a_sparse_file_that_nobody_reads_is_passed_over(tmp_path: Path, form: str) -> None:
    holey(tmp_path / "disk", 40)
    (tmp_path / "zz").write_bytes(b"after")
    stream = Stream(iter([packed(tmp_path, *FORMS[form])]), limit_bytes=1 << 26)
    assert [entry.name for entry in Members(stream, sparse_limit_bytes=LIMIT)] == [b"disk", b"zz"]


@pytest.mark.parametrize("form", FORMS)
def test_they_are_refused_where_they_are_not_asked_for_and_beyond_the_limit(tmp_path: Path, form: str) -> None:
    holey(tmp_path / "disk", 3)
    data = packed(tmp_path, *FORMS[form])
    with pytest.raises(Malformed, match="it has a sparse file"):
        read(data, limit=None)
    with pytest.raises(Malformed, match="larger than allowed"):
        read(data, limit=100_000)


@pytest.mark.parametrize("form", FORMS)
def test_whatever_is_wrong_in_a_map_is_malformed(tmp_path: Path, form: str) -> None:
    """Each byte of the map, changed: it is read as something, or malformed, and never more than allowed."""
    holey(tmp_path / "disk", 3)
    data = packed(tmp_path, *FORMS[form])
    for at in [*range(380, 500), *range(1024, 1200), *range(1536, 1700)]:
        for value in (0x39, 0x30, 0x0A, 0xFF):
            changed = bytearray(data)
            changed[at] = value
            for start in range(0, 4 * BLOCK, BLOCK):  # checksums again right, where it was a header
                block = changed[start : start + BLOCK]
                if data[start + 257 : start + 262] == b"ustar":
                    total = sum(block) - sum(block[148:156]) + 8 * 0x20
                    changed[start + 148 : start + 156] = b"%06o\0 " % total
            try:
                found = read(bytes(changed))
            except Malformed:
                continue
            assert sum(map(len, found.values())) <= LIMIT


def test_an_archive_of_version_7_is_known_and_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    data = packed(tmp_path, "--format=v7")
    assert data[257:262] == bytes(5)
    assert begins_tar(data[:BLOCK])
    assert read(data) == {b"file": b"content"}
    assert not begins_tar(b"no tar at all" * 100)
    assert not begins_tar(bytes(BLOCK))
    assert not begins_tar(data[:100])


def test_the_form_that_repeats_its_keys_is_told(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("x")
        info.pax_headers = {"GNU.sparse.size": "10", "GNU.sparse.numblocks": "1", "GNU.sparse.offset": "0"}
        archive.addfile(info)
    with pytest.raises(Malformed, match="of a form that isn't read here"):
        read(buffer.getvalue())
