"""Source distributions, their indexes and what their backends make, that mean harm to the machine which locks them."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from instar.ecosystems import sdist
from instar.ecosystems.download import Downloads
from instar.ecosystems.sdist import read_build_system
from instar.ecosystems.sdist_index import SourceIndexes
from instar.errors import FetchError, ResolveError
from instar.store.members import Malformed


def source(path: Path, pyproject: bytes) -> Path:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("one-1/pyproject.toml")
        info.size = len(pyproject)
        archive.addfile(info, io.BytesIO(pyproject))
    path.write_bytes(gzip.compress(buffer.getvalue(), mtime=0))
    return path


def test_a_key_of_thousands_of_parts_is_not_read(tmp_path: Path) -> None:
    """A MiB of it took Python hours."""
    path = source(tmp_path / "one-1.tar.gz", b"a" + b".a" * 5_000 + b" = 1\n")
    with pytest.raises(ResolveError, match="cannot use the source distribution 'one-1': it has a key of more than 32"):
        read_build_system(path, "one-1")


def test_a_wheel_that_unfolds_to_more_than_memory_holds_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("one.py", bytes(1 << 20))
    monkeypatch.setattr(sdist, "_WHEEL_LIMIT_BYTES", 1 << 19)
    with zipfile.ZipFile(buffer) as archive, pytest.raises(Malformed, match="unfolds to more than the 524,288 bytes"):
        sdist._packed(archive)


def test_an_index_by_tls_names_no_file_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = json.dumps({"files": [{"filename": "one-1.tar.gz", "url": "http://any.example/one-1.tar.gz"}]}).encode()
    for name in ("PIP_NO_INDEX", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "https://any.example/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setattr(Downloads, "page", lambda *words, **more: page)
    with pytest.raises(FetchError, match=r"'any\.example' sends us to 'any\.example', without TLS"):
        SourceIndexes(None, tmp_path).find("one", "1")
