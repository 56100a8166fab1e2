"""Reading package files, whole and broken, and what dpkg is told about them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from instar.bake import bootstrap, dpkg
from instar.bake.bootstrap import Unpacked
from instar.bake.deb import Deb, fields
from instar.errors import BakeError
from instar.model.digest import Digest
from instar.model.lock import Package


def tar(files: dict[str, bytes | None]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.type = tarfile.REGTYPE if content is not None else tarfile.DIRTYPE
            info.size = len(content or b"")
            info.mode = 0o644 if content is not None else 0o755
            archive.addfile(info, io.BytesIO(content or b""))
    return buffer.getvalue()


def ar(members: dict[str, bytes]) -> bytes:
    out = b"!<arch>\n"
    for name, data in members.items():
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    return out


def package(name: str) -> Package:
    return Package(name=name, version="1", architecture="amd64", size_bytes=1, sha256=Digest.of(b""), label="x",
                   suite="x", path="x", step="base")  # fmt: skip


def unpacked(name: str, control: str = "", **files: bytes) -> Unpacked:
    text = f"Package: {name}\n{control}".encode()
    return Unpacked(package=package(name), control={"control": text, **files}, paths=(b"/.", b"/x"), conffiles={})


@pytest.mark.parametrize(
    ("end", "pack"),
    [
        ("", bytes),
        (".gz", gzip.compress),
        (".xz", lzma.compress),
        (".bz2", bz2.compress),
        (".zst", zstandard.ZstdCompressor().compress),
    ],
)
def test_every_compression_is_read(tmp_path: Path, end: str, pack: Callable[[bytes], bytes]) -> None:
    content = bytes(range(256)) * 20_000
    (tmp_path / "x.deb").write_bytes(
        ar({
            "debian-binary": b"2.0\n",
            f"control.tar{end}": pack(tar({"./control": b"Package: x\n", "./md5sums": b""})),
            f"data.tar{end}": pack(tar({"./": None, "./big": content})),
        })
    )  # fmt: skip
    deb = Deb(tmp_path / "x.deb", "x")
    assert deb.control() == {"control": b"Package: x\n", "md5sums": b""}
    with deb.data() as members:
        assert [(entry.name, b"".join(members.content())) for entry in members] == [(b"./", b""), (b"./big", content)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an archive",
        ar({"debian-binary": b"2.0\n"}),
        ar({"control.tar.rar": b""}),
        ar({"control.tar.xz": b"not xz"}),
        ar({"control.tar.gz": gzip.compress(tar({"./x": b"x" * 9000}))[:-50]}),
        ar({"control.tar.zst": b"not zstd"}),
        ar({"control.tar": b"x" * 512}),
        ar({"control.tar": b""})[:-20],
        ar({"control.tar": tar({"./control": b"x" * 2000})})[:-3000],
    ],
)
def test_a_broken_package_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.deb").write_bytes(data)
    with pytest.raises(BakeError, match=r"^cannot unpack package 'broken': its control\.tar is malformed: "):
        Deb(tmp_path / "x.deb", "broken").control()


def test_fields_keep_their_continuation_lines() -> None:
    assert fields(b"Package: x\nConffiles:\n /a 1\n /b 2\nVersion: 1:2\n") == {
        "Package": "x",
        "Conffiles": "\n /a 1\n /b 2",
        "Version": "1:2",
    }


def test_what_others_pre_depend_on_comes_first() -> None:
    controls = {
        "a": {"Pre-Depends": "z (>= 1), awk, missing"},
        "m": {"Provides": "awk"},
        "y": {"Pre-Depends": "c | d"},
        "z": {"Pre-Depends": "y:any"},
        "c": {},
        "circle": {"Pre-Depends": "circle2"},
        "circle2": {"Pre-Depends": "circle"},
    }
    assert dpkg.in_order_of_need(controls) == ("c", "y", "z", "m", "a", "circle2", "circle")


def test_the_database_says_what_is_unpacked(tmp_path: Path) -> None:
    one = unpacked("one", "Multi-Arch: same\nDescription: x\n", postinst=b"#!/bin/sh\n",
                   triggers=b"# comment\ninterest-noawait /usr/lib\ninterest ldconfig\nactivate x\n")  # fmt: skip
    two = Unpacked(package=package("two"), control={"control": b"Package: two\n"}, paths=(b"/.",),
                   conffiles={b"/etc/a": "d41d", b"/etc/gone": ""})  # fmt: skip
    dpkg.write_database(tmp_path, [one, two])
    admin = tmp_path / "var/lib/dpkg"
    assert (admin / "status").read_text() == (
        "Package: one\nMulti-Arch: same\nDescription: x\nStatus: install ok unpacked\n\n"
        "Package: two\nStatus: install ok unpacked\nConffiles:\n /etc/a d41d\n /etc/gone newconffile\n\n"
    )
    assert (admin / "info/one:amd64.list").read_text() == "/.\n/x\n"
    assert (admin / "info/one:amd64.postinst").stat().st_mode & 0o777 == 0o755
    assert (admin / "info/two.list").stat().st_mode & 0o777 == 0o644
    assert (admin / "triggers/File").read_text() == "/usr/lib one/noawait\n"
    assert (admin / "triggers/ldconfig").read_text() == "one\n"


def test_without_scripts_packages_are_installed_at_once(tmp_path: Path) -> None:
    plain = unpacked("plain", md5sums=b"")
    assert not dpkg.needs_configuration([plain])
    dpkg.write_database(tmp_path, [plain])
    assert "Status: install ok installed\n" in (tmp_path / "var/lib/dpkg/status").read_text()
    assert dpkg.needs_configuration([plain, unpacked("other", preinst=b"")])


@pytest.mark.parametrize("name", ["../out", "a/../../out", "line\nbreak"])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.deb").write_bytes(
        ar({"control.tar": tar({"./control": b"Package: x\n"}), "data.tar": tar({name: b""})})
    )
    (tmp_path / "tree").mkdir()
    with pytest.raises(BakeError, match=r"cannot unpack package 'x': '.*' is no name of a file to install"):
        bootstrap.unpack([(package("x"), tmp_path / "x.deb")], tmp_path / "tree", "amd64")
