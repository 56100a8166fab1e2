"""Reading package files, whole and broken, and what dpkg is told about them."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import zstandard

from instar.bake.debian import bootstrap, dpkg
from instar.bake.debian.bootstrap import Unpacked
from instar.bake.debian.deb import Deb, decompressed
from instar.bake.root import Root
from instar.errors import BakeError
from instar.model.control import fields
from instar.model.digest import Digest
from instar.model.lock import Package


def tar(files: Mapping[str, bytes | str | None]) -> bytes:
    """A tar of ``files``: bytes are a file's, text a link's target, None is a directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.mode = 0o644 if content is not None else 0o755
            if isinstance(content, bytes):
                info.size = len(content)
            elif content is None:
                info.type = tarfile.DIRTYPE
            else:
                info.type, info.linkname = tarfile.SYMTYPE, content
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return buffer.getvalue()


def ar(members: dict[str, bytes]) -> bytes:
    out = b"!<arch>\n"
    for name, data in members.items():
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    return out


def write_database(tree: Path, *packages: Unpacked) -> None:
    with Root(tree, epoch=0) as root:
        dpkg.write_database(root, packages, epoch=1234)


def unpack(tmp_path: Path, *files: Mapping[str, bytes | str | None], **control: bytes) -> tuple[Unpacked, ...]:
    """Unpack packages with ``files`` into tmp_path/tree."""
    debs = []
    for number, one in enumerate(files):
        path = tmp_path / f"{number}.deb"
        path.write_bytes(ar({"control.tar": tar({"./control": b"Package: x\n", **control}), "data.tar": tar(one)}))
        debs.append((package("x"), path))
    (tmp_path / "tree").mkdir()
    return bootstrap.unpack(debs, tmp_path / "tree", "amd64")


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
    ("end", "pack"),
    [
        (".gz", gzip.compress),
        (".xz", lzma.compress),
        (".bz2", bz2.compress),
        (".zst", zstandard.ZstdCompressor().compress),
    ],
)
def test_all_streams_of_a_compressed_file_are_read(end: str, pack: Callable[[bytes], bytes]) -> None:
    content = [bytes([number]) * 2_000_000 for number in range(3)]
    packed = b"".join(map(pack, content))
    for size in (len(packed), 1 << 10, len(pack(content[0]))):
        chunks = [packed[at : at + size] for at in range(0, len(packed), size)]
        unfolded = list(decompressed(iter(chunks), f"x.tar{end}"))
        assert b"".join(unfolded) == b"".join(content)
        assert max(map(len, unfolded)) <= 1 << 20


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an archive",
        ar({"debian-binary": b"2.0\n"}),
        ar({"control.tar.rar": b""}),
        ar({"control.tar.xz": b"not xz"}),
        ar({"control.tar.gz": gzip.compress(tar({"./x": b"x" * 9000}))[:-50]}),
        ar({"control.tar.gz": gzip.compress(tar({"./control": b"x"})) + b"garbage"}),
        ar({"control.tar.xz": lzma.compress(tar({"./control": b"x"}))[:-20]}),
        ar({"control.tar.zst": b"not zstd"}),
        ar({"control.tar": tar({"./control": b"x"})[:1024]}),
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
    write_database(tmp_path, one, two)
    admin = tmp_path / "var/lib/dpkg"
    assert (admin / "status").read_text() == (
        "Package: one\nMulti-Arch: same\nDescription: x\nStatus: install ok unpacked\n\n"
        "Package: two\nStatus: install ok unpacked\nConffiles:\n /etc/a d41d\n /etc/gone newconffile\n\n"
    )
    assert (admin / "status").stat().st_mtime == 1234
    assert (admin / "info/one:amd64.list").read_text() == "/.\n/x\n"
    assert (admin / "info/one:amd64.postinst").stat().st_mode & 0o777 == 0o755
    assert (admin / "info/two.list").stat().st_mode & 0o777 == 0o644
    assert (admin / "triggers/File").read_text() == "/usr/lib one/noawait\n"
    assert (admin / "triggers/ldconfig").read_text() == "one\n"


def test_without_scripts_packages_are_installed_at_once(tmp_path: Path) -> None:
    plain = unpacked("plain", md5sums=b"")
    assert not dpkg.needs_configuration([plain])
    write_database(tmp_path, plain)
    assert "Status: install ok installed\n" in (tmp_path / "var/lib/dpkg/status").read_text()
    assert dpkg.needs_configuration([plain, unpacked("other", preinst=b"")])


@pytest.mark.parametrize("name", ["../out", "a/../../out", "line\nbreak"])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BakeError, match=r"cannot unpack package 'x': '.*' is no name of a file to install"):
        unpack(tmp_path, {name: b""})


@pytest.mark.parametrize("name", ["d/" * 300 + "f", "d/" * 1500 + "f"])
def test_a_name_that_nobody_could_walk_to_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BakeError, match=r"cannot unpack package 'x': '/d/d.*…' is nested more than 256 deep"):
        unpack(tmp_path, {name: b""})


@pytest.mark.parametrize("name", ["./x/../../../../../../out", "./a/b", "./.."])
def test_a_control_file_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BakeError, match=r"its control\.tar is malformed: '.*' is no name of a control file"):
        unpack(tmp_path, {"var/lib/dpkg/info/x.x/": None}, **{name: b"evil"})


@pytest.mark.parametrize("name", ["../../../../../out", "a/b", "..", "a\0b", "\N{LATIN SMALL LETTER AE}"])
def test_a_trigger_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "tree").mkdir()
    with pytest.raises(BakeError, match=r"cannot unpack package 'x': .* is no name of a trigger"):
        write_database(tmp_path / "tree", unpacked("x", triggers=f"interest {name}\n".encode()))
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


@pytest.mark.parametrize("parent", ["a", "a/cron.d"])
def test_a_link_is_not_made_through_a_link(tmp_path: Path, parent: str) -> None:
    outside = tmp_path / "outside"
    (outside / "cron.d").mkdir(parents=True)
    with pytest.raises(BakeError, match=f"cannot unpack '/{parent}/evil': it lies in what is no directory but a link"):
        unpack(tmp_path, {"a": str(outside)}, {f"{parent}/evil": "/x"})
    assert [path.name for path in outside.rglob("*")] == ["cron.d"]


@pytest.mark.parametrize("link", ["var/lib/dpkg", "var/lib/dpkg/status", "var/lib/dpkg/info/x.list", "var"])
def test_the_database_stays_in_the_tree(tmp_path: Path, link: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    target = outside / "file" if "." in link or link.endswith("status") else outside
    packages = unpack(tmp_path, {link: str(target)})
    with contextlib.suppress(OSError):
        write_database(tmp_path / "tree", *packages)
    assert list(outside.rglob("*")) == []


def test_only_attributes_that_a_layer_carries_are_set(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("folder")
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        info.pax_headers = {"SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.user.mine": "1"}
        archive.addfile(info)
    path = tmp_path / "x.deb"
    path.write_bytes(ar({"control.tar": tar({"./control": b"Package: x\n"}), "data.tar": buffer.getvalue()}))
    (tmp_path / "tree").mkdir()
    bootstrap.unpack([(package("x"), path)], tmp_path / "tree", "amd64")
    assert os.listxattr(tmp_path / "tree/folder") == ["user.mine"]
