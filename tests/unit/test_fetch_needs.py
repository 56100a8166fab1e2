"""Which fetched files are needed by whom: written whole, and never guessed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from instar.errors import HostError
from instar.fetch.needs import Needs
from instar.model.digest import Digest

ONE, TWO = Digest.of(b"one"), Digest.of(b"two")


@pytest.fixture
def needs(tmp_path: Path) -> Needs:
    return Needs(tmp_path)


def test_what_was_written_is_found_and_the_newest_counts(needs: Needs) -> None:
    assert needs.names() == frozenset()
    needs.write("service-web", [ONE, TWO, ONE])
    assert needs.find("service-web") == {ONE, TWO}
    needs.write("service-web", [TWO])
    needs.write("service-none", [])
    assert needs.find("service-web") == {TWO} and needs.find("service-none") == frozenset()
    assert needs.names() == {"service-web", "service-none"}


def test_the_same_again_is_not_written(needs: Needs, tmp_path: Path) -> None:
    needs.write("service-web", [ONE])
    before = (tmp_path / "needed/service-web").stat()
    needs.write("service-web", [ONE])
    assert (tmp_path / "needed/service-web").stat().st_ino == before.st_ino


@pytest.mark.parametrize("text", [b"half a dig", b"\xff\xfe", f"{ONE.hex}\n{TWO.hex[:9]}".encode()])
def test_a_damaged_record_is_not_known_and_can_be_written_anew(needs: Needs, tmp_path: Path, text: bytes) -> None:
    needs.write("service-web", [ONE])
    (tmp_path / "needed/service-web").write_bytes(text)
    assert needs.find("service-web") is None
    needs.write("service-web", [ONE])
    assert needs.find("service-web") == {ONE}


def test_forgotten_are_those_that_are_named_and_what_a_crash_left(needs: Needs, tmp_path: Path) -> None:
    for name in ("service-web", "service-other"):
        needs.write(name, [ONE])
    left, going_on = tmp_path / "needed/.service-web.0a", tmp_path / "needed/.service-web.0b"
    for path in (left, going_on):
        path.touch()
    os.utime(left, (0, 0))
    needs.forget(["service-web", "service-never"])
    assert needs.names() == {"service-other"}
    assert (left.exists(), going_on.exists()) == (False, True), "what another process writes just now is its own"


def test_a_folder_that_cannot_be_written_is_said(needs: Needs, tmp_path: Path) -> None:
    (tmp_path / "needed").touch()
    with pytest.raises(HostError, match="cannot write to"):
        needs.write("service-web", [ONE])
