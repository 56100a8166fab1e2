"""What wheels need of an image, found in their libraries and sources."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from instar.bake import elf
from instar.bake.root import Root
from instar.bake.wheels.libraries import missing, package_of


def library(needed: Sequence[str], *, strings_at: int | None = None, count: int = 2) -> bytes:
    """A shared library with nothing in it but its dynamic section."""
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in needed)
    places = [strings.index(name.encode() + b"\0") for name in needed]
    start = 64 + 2 * 56
    entries = [(1, place) for place in places] + [(5, start if strings_at is None else strings_at), (0, 0)]
    dynamic = b"".join(struct.pack("<qQ", *entry) for entry in entries)
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, 64, 0, 0, 64, 56, count, 0, 0, 0)
    size = start + len(strings) + len(dynamic)
    segments = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, size, size, 0x1000)
    segments += struct.pack("<IIQQQQQQ", 2, 6, start + len(strings), 0, 0, len(dynamic), len(dynamic), 8)
    return header + segments + strings + dynamic


def needed(path: Path) -> tuple[str, ...]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return elf.needed(descriptor)
    finally:
        os.close(descriptor)


def test_a_program_of_this_machine_names_its_c_library() -> None:
    assert "libc.so.6" in needed(Path("/bin/ls"))


def test_what_a_library_names_is_read_and_rubbish_names_nothing(tmp_path: Path) -> None:
    path, whole = tmp_path / "x.so", library(["libstdc++.so.6", "libz.so.1"])
    path.write_bytes(whole)
    assert needed(path) == ("libstdc++.so.6", "libz.so.1")
    for rubbish in (
        b"",
        b"\x7fELF",
        whole[:70],
        library(["a"], strings_at=1 << 63),
        library(["a"], count=9999),
        b"x" * 999,
    ):
        path.write_bytes(rubbish)
        assert needed(path) == ()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
        assert len(needed(path)) <= 2


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("libstdc++.so.6", "libstdc++6"),
        ("libz.so.1", "zlib1g"),
        ("libX11.so.6", "libx11-6"),
        ("libpq.so.5", "libpq5"),
        ("libGL.so.1", "libgl1"),
        ("libgomp.so.1", "libgomp1"),
        ("libgthread-2.0.so.0", "libglib2.0-0"),
        ("libodbc.so.2", "libodbc2"),
    ],
)
def test_debian_names_packages_after_their_libraries(name: str, package: str) -> None:
    assert package_of(name) == package


def lines(tree: Path) -> list[str]:
    with Root(tree, epoch=0) as root:
        return list(missing(root, tree / "venv", "amd64"))


def test_what_the_image_lacks_is_told_with_the_package_that_has_it(tmp_path: Path) -> None:
    venv, system = tmp_path / "venv", tmp_path / "usr/lib/x86_64-linux-gnu"
    (venv / "numpy/core").mkdir(parents=True)
    (venv / "numpy.libs").mkdir()
    system.mkdir(parents=True)
    (venv / "numpy/core/math.so").write_bytes(library(["libstdc++.so.6", "libc.so.6", "libblas-1.so.3", "libz.so.1"]))
    (venv / "numpy.libs/libblas-1.so.3").write_bytes(library(["libgfortran.so.5", "libm.so.6"]))
    (system / "libz.so.1").touch()
    (venv / "django").mkdir()
    (venv / "django/zones.py").write_text("import x\n    from zoneinfo import ZoneInfo\n")
    assert lines(tmp_path) == [
        "numpy needs libgfortran.so.5, which the image lacks: add libgfortran5 to image.packages",
        "numpy needs libstdc++.so.6, which the image lacks: add libstdc++6 to image.packages",
        "django may ask for time zones, which the image lacks: add tzdata to image.packages",
    ]
    for name in ("libgfortran.so.5", "libstdc++.so.6"):
        (system / name).touch()
    (venv / "tzdata").mkdir()
    assert lines(tmp_path) == []


def test_only_regular_files_are_looked_through(tmp_path: Path) -> None:
    (tmp_path / "venv/wheel").mkdir(parents=True)
    for name in ("x.so", "x.py"):
        os.mkfifo(tmp_path / "venv/wheel" / name)
    elsewhere = tmp_path / "machine"
    elsewhere.mkdir()
    (elsewhere / "zones.py").write_text("import zoneinfo\n")
    (tmp_path / "venv/linked").symlink_to(elsewhere)
    (tmp_path / "venv/linked.so").symlink_to("/bin/ls")
    assert lines(tmp_path) == []
