"""Wheels → the files that they install."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from instar.bake.root import Written
from instar.bake.wheels import wheel
from instar.bake.wheels.wheel import Layout
from instar.errors import BakeError

LAYOUT = Layout(prefix="/opt/venv", packages="lib/site", scripts="bin", headers="include")
INFO = "x_y-1.dist-info"
ENTRY_POINTS = "[console_scripts]\nGo = x.main:App.run [extra]\n[gui_scripts]\ngui=x:f\n[other]\na=b\n"


def write(path: Path, files: Mapping[str, bytes | str], *, executable: tuple[str, ...] = ()) -> Path:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o100755 if name in executable else 0o100644) << 16
            archive.writestr(info, content)
    path.write_bytes(buffer.getvalue())
    return path


def install(path: Path) -> dict[str, tuple[bytes, int]]:
    found: dict[str, tuple[bytes, int]] = {}

    def put(name: str, content: Iterable[bytes], mode: int) -> Written:
        data = b"".join(content)
        found[name] = data, mode
        return Written(hashlib.sha256(data).digest(), len(data))

    wheel.install(path, "x_y-1-py3-none-any.whl", LAYOUT, put)
    return found


WHOLE: dict[str, bytes | str] = {
    "x/__init__.py": b"",
    "x/tool": b"#!/bin/sh\n",
    "x_y-1.data/purelib/pure": b"p",
    "x_y-1.data/platlib/plat": b"p",
    "x_y-1.data/scripts/py": b"#!pythonw -s\nrest\n",
    "x_y-1.data/scripts/sh": b"#!/bin/sh\n",
    "x_y-1.data/headers/h.h": b"h",
    "x_y-1.data/data/share/a,b": b"d",
    f"{INFO}/WHEEL": b"",
    f"{INFO}/RECORD": b"old",
    f"{INFO}/entry_points.txt": ENTRY_POINTS,
}


def test_everything_lands_in_its_place(tmp_path: Path) -> None:
    found = install(write(tmp_path / "w", WHOLE, executable=("x/tool",)))
    programs = {"lib/site/x/tool", "bin/py", "bin/sh", "bin/Go", "bin/gui"}
    files = {"lib/site/x/__init__.py", "lib/site/pure", "lib/site/plat", "include/x_y/h.h", "share/a,b"}
    files |= {f"lib/site/{INFO}/{name}" for name in ("WHEEL", "entry_points.txt", "RECORD")}
    assert {name for name, (_, mode) in found.items() if mode == 0o755} == programs
    assert {name for name, (_, mode) in found.items() if mode == 0o644} == files


def test_a_wheel_may_bring_others_along_with_their_metadata(tmp_path: Path) -> None:
    """As setuptools does: they are files like others."""
    vendored = {"x/_vendor/other-2.dist-info/WHEEL": b"", "x/_vendor/other-2.dist-info/entry_points.txt": ENTRY_POINTS}
    found = install(write(tmp_path / "w", {**WHOLE, **vendored}))
    assert {f"lib/site/{name}" for name in vendored} < set(found)
    assert found[f"lib/site/{INFO}/RECORD"][0].decode().count("other-2.dist-info") == 2


def test_scripts_get_the_environments_python(tmp_path: Path) -> None:
    found = install(write(tmp_path / "w", WHOLE))
    assert found["bin/py"][0] == b"#!/opt/venv/bin/python -s\nrest\n"
    assert found["bin/sh"][0] == b"#!/bin/sh\n"
    assert found["bin/Go"][0] == (
        b"#!/opt/venv/bin/python\nimport sys\nfrom x.main import App\n"
        b'if __name__ == "__main__":\n    sys.exit(App.run())\n'
    )


def test_the_record_names_every_file(tmp_path: Path) -> None:
    found = install(write(tmp_path / "w", WHOLE))
    record = found[f"lib/site/{INFO}/RECORD"][0].decode().splitlines()
    assert "x/__init__.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0" in record
    assert any(line.startswith("../../bin/Go,sha256=") for line in record)
    assert any(line.startswith('"../../share/a,b",sha256=') for line in record)
    assert record[-1] == f"{INFO}/RECORD,,"
    assert len(record) == len(found)


@pytest.mark.parametrize(
    ("files", "cause"),
    [
        ({"x": b""}, "it has no metadata"),
        ({"a-1.dist-info/WHEEL": b"", "b-1.dist-info/WHEEL": b""}, "it has metadata of several packages"),
        ({f"{INFO}/WHEEL": b"", "../out": b""}, "'../out' leads out of it"),
        ({f"{INFO}/WHEEL": b"", "/etc/passwd": b""}, "'/etc/passwd' leads out of it"),
        ({f"{INFO}/WHEEL": b"", "x_y-1.data/other/x": b""}, "'x_y-1.data/other/x' has no known place"),
        ({f"{INFO}/WHEEL": b"", f"{INFO}/entry_points.txt": b"[console_scripts]\na = b\n"}, "entry point 'a' names no"),
        ({f"{INFO}/WHEEL": b"", f"{INFO}/entry_points.txt": b"[console_scripts]\n../a = b:c\n"}, "entry point '../a'"),
        *(
            (
                {f"{INFO}/WHEEL": b"", f"{INFO}/entry_points.txt": b"[console_scripts]\n" + name + b" = b:c\n"},
                "entry point '",
            )
            for name in (b"a\0b", b"..", b".", b"a\x1bb")
        ),
    ],
)
def test_a_malformed_wheel_is_named(tmp_path: Path, files: dict[str, bytes], cause: str) -> None:
    with pytest.raises(BakeError) as caught:
        install(write(tmp_path / "w", files))
    assert caught.value.message.startswith(f"cannot install wheel 'x_y-1-py3-none-any.whl': it is malformed: {cause}")


def flip(path: Path, at: int, value: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] = value
    path.write_bytes(data)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compression_without_a_bound_is_refused(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "w", "w", method) as archive:
        archive.writestr(f"{INFO}/WHEEL", b"x")
    with pytest.raises(BakeError, match="is compressed in a way that isn't read here"):
        install(tmp_path / "w")


@pytest.mark.parametrize(("at", "value"), [(6, 1), (8, 99), (30 + len(f"{INFO}/WHEEL"), 7), (14, 1)])
def test_what_is_damaged_inside_is_named(tmp_path: Path, at: int, value: int) -> None:
    """Said to be encrypted, of an unknown method, no deflated bytes, with another checksum."""
    with zipfile.ZipFile(tmp_path / "w", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{INFO}/WHEEL", b"x" * 1000)
    whole = (tmp_path / "w").read_bytes()
    flip(tmp_path / "w", at, value)
    if at != 30 + len(f"{INFO}/WHEEL"):  # the directory at the end counts
        flip(tmp_path / "w", whole.index(b"PK\1\2") + at + 2, value)
    with pytest.raises(BakeError, match="it is malformed: "):
        install(tmp_path / "w")


def test_more_than_is_allowed_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "w", {f"{INFO}/WHEEL": b"", **{f"{number}": b"" for number in range(5)}})
    for entry in re.finditer(b"PK\1\2", path.read_bytes()):
        for byte in range(4):  # of what the member is said to unfold to
            flip(path, entry.start() + 24 + byte, 0xF0)
    with pytest.raises(BakeError, match="it holds more than the 17,179,869,184 bytes that are allowed"):
        install(path)
    path = write(tmp_path / "w", {f"{INFO}/WHEEL": b"", f"{INFO}/entry_points.txt": bytes((1 << 20) + 1)})
    with pytest.raises(BakeError, match=r"entry_points\.txt' has more than the 1,048,576 bytes that are allowed"):
        install(path)


def test_what_is_no_zip_is_named(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"no zip")
    with pytest.raises(BakeError, match="cannot install wheel"):
        install(tmp_path / "w")
