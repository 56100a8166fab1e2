"""Which busybox can be shown inside an instance, and what is said where there is none."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from instar.errors import ComponentMissing
from instar.host.isolation import programs, toolbox


def elf(*kinds: int) -> bytes:
    """Return the headers of a 64-bit program with segments of these kinds."""
    head = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, len(kinds), 0, 0, 0)
    )
    return head + b"".join(struct.pack("<IIQQQQQQ", kind, 5, 64, 0, 0, 9, 9, 1) for kind in kinds)


@pytest.mark.parametrize(
    ("content", "static"),
    [
        (elf(1, 1), True),
        (elf(6, 3, 1), False),
        (b"", False),
        (b"\x7fELF", False),
        (b"#!/bin/sh\n", False),
        (elf(1)[:70], False),
    ],
)
def test_a_static_program_is_known_by_its_headers(tmp_path: Path, content: bytes, static: bool) -> None:
    file = tmp_path / "busybox"
    file.write_bytes(content)
    assert programs.is_static(file) == static
    assert not programs.is_static(tmp_path / "nothing")


def test_what_is_missing_is_said_with_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "busybox"
    file.write_bytes(elf(3))
    monkeypatch.setattr(toolbox.process, "find_program", lambda name: None)
    with pytest.raises(ComponentMissing, match="not installed") as caught:
        toolbox.get()
    assert caught.value.hint == "apt-get install busybox-static"
    monkeypatch.setattr(toolbox.process, "find_program", lambda name: file)
    with pytest.raises(ComponentMissing, match="not static"):
        toolbox.get()
    assert toolbox.find() is None


def test_the_folder_holds_busybox_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "busybox"
    file.write_bytes(elf(1))
    monkeypatch.setattr(toolbox.process, "find_program", lambda name: file)
    made = toolbox.provide(tmp_path / "toolbox")
    assert made == toolbox.provide(tmp_path / "toolbox")
    assert [path.name for path in made.iterdir()] == ["busybox"] and (made / "busybox").read_bytes() == elf(1)
    assert (made / "busybox").stat().st_mode & 0o7777 == made.stat().st_mode & 0o7777 == 0o755
    file.write_bytes(elf(1, 1))
    assert toolbox.provide(tmp_path / "toolbox") != made, "another one is another folder"
    assert len(list((tmp_path / "toolbox").iterdir())) == 2
