"""Programs that mean harm to who follows what they name: each is a few pages, and would be looked at for hours."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from instar.bake import elf
from instar.bake.slim.closure import Closure

_NEEDED, _STRINGS, _RUNPATH = 1, 5, 29


def program(needed: Sequence[bytes], run_paths: Sequence[bytes]) -> bytes:
    """A library that names others, and folders in which they are looked for."""
    start, strings, entries = 64 + 2 * 56, b"\0", [(_STRINGS, 64 + 2 * 56)]
    for tag, names in ((_NEEDED, needed), (_RUNPATH, run_paths)):
        for name in names:
            entries.append((tag, len(strings)))
            strings += name + b"\0"
    dynamic = b"".join(struct.pack("<qQ", *entry) for entry in [*entries, (0, 0)])
    at, size = start + len(strings), start + len(strings) + len(dynamic)
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, size, size, 0x1000)
    return header + load + struct.pack("<IIQQQQQQ", 2, 6, at, at, 0, len(dynamic), len(dynamic), 8) + strings + dynamic


def linked(path: Path) -> elf.Linked | None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return elf.linked(descriptor)
    finally:
        os.close(descriptor)


def test_what_a_library_names_is_found_once(tmp_path: Path) -> None:
    (tmp_path / "x.so").write_bytes(program([b"a.so", b"b.so", b"a.so"], [b"$ORIGIN:/lib", b"/lib"]))
    found = linked(tmp_path / "x.so")
    assert found is not None
    assert (found.needed, found.run_paths) == (("a.so", "b.so"), ("$ORIGIN", "/lib"))


@pytest.mark.parametrize(
    ("needed", "run_paths"),
    [
        ([b"l%d.so" % number for number in range(2_000)], [b"/lib"]),
        ([b"l.so"], [b":".join(b"/%x" % (start + number) for number in range(500)) for start in range(0, 10**5, 500)]),
    ],
    ids=["names", "folders"],
)
def test_one_that_names_more_than_any_does_names_nothing(
    needed: Sequence[bytes], run_paths: Sequence[bytes], tmp_path: Path
) -> None:
    (tmp_path / "x.so").write_bytes(program(needed, run_paths))
    found = linked(tmp_path / "x.so")
    assert found is not None
    assert (found.needed, found.run_paths) == ((), ())


def test_a_loader_that_is_configured_for_a_thousand_folders_is_asked_for_few(tmp_path: Path) -> None:
    (tmp_path / "etc/ld.so.conf.d").mkdir(parents=True)
    (tmp_path / "etc/ld.so.conf.d/x.conf").write_text("".join(f"/{number}\n" for number in range(5_000)))
    (tmp_path / "4000").mkdir()
    (tmp_path / "4000/l.so").write_bytes(program([], []))
    (tmp_path / "x.so").write_bytes(program([b"l.so"], []))
    closure = Closure(tmp_path, path="/bin")
    closure.add("x.so")
    assert closure.missing == {"l.so": "x.so"}
