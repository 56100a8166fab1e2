"""Of programs that an entry brings it is said when none of them is for the image's architecture."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from instar.bake import elf
from instar.bake.foreign import look_for_foreign
from instar.bake.root import ROOT, Root

AMD64, I386, ARM64, S390X, BPF = 62, 3, 183, 22, 247


def program(machine: int, *, kind: int = 3, big: bool = False) -> bytes:
    return (
        b"\x7fELF\x02" + (b"\x02" if big else b"\x01") + bytes(10) + struct.pack(">HH" if big else "<HH", kind, machine)
    )


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (program(AMD64), "amd64"),
        (program(ARM64, kind=2), "arm64"),
        (program(S390X, big=True), "s390x"),
        (program(AMD64, kind=1), None),  # an object that is to be linked
        (program(BPF), None),
        (program(AMD64)[:19], None),
        (b"#!/bin/sh\n" * 3, None),
        (b"", None),
    ],
)
def test_for_what_a_program_is(start: bytes, name: str | None) -> None:
    assert elf.architecture(start) == name


def test_this_very_program_is_for_this_machine() -> None:
    with Path(sys.executable).resolve().open("rb") as file:
        assert elf.architecture(file.read(elf.START_BYTES)) in ("amd64", "arm64")


@pytest.mark.parametrize(
    ("machines", "told"),
    [
        ([], None),
        ([AMD64], None),
        ([I386], None),
        ([BPF], None),
        ([ARM64, AMD64], None),  # for each machine one
        ([ARM64], "x:3:1: '/p0': for arm64, and the image is for amd64: not to be run there"),
        ([ARM64, BPF, S390X], "x:3:1: '/p0', '/p2': for arm64, s390x, and"),
        ([ARM64] * 5, "x:3:1: '/p0', '/p1', '/p2' and 2 more: for arm64, and"),
    ],
)
def test_when_it_is_said(machines: list[int], told: str | None) -> None:
    said: list[str] = []
    room = cast(Any, SimpleNamespace(architecture="amd64", declared=False, warn=said.append))
    look_for_foreign({f"p{number}": program(one) for number, one in enumerate(machines)}, "x:3:1", room)
    assert (said == []) if told is None else (len(said) == 1 and said[0].startswith(told))


def test_a_root_notes_programs_whatever_pieces_they_come_in(tmp_path: Path) -> None:
    with Root(tmp_path, epoch=0) as root:
        whole = program(ARM64) + b"more"
        root.put("/a", [whole[at : at + 3] for at in range(0, len(whole), 3)], owner=ROOT, mode=0o755)
        root.put("/b", [b"text"], owner=ROOT, mode=0o644)
        root.put("/c", [], owner=ROOT, mode=0o644)
        assert {path: elf.architecture(start) for path, start in root.programs.items()} == {"/a": "arm64"}
