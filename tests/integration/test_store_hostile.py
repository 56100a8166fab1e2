"""A gallery of tars that mean harm: each is refused or made harmless, and nothing outside the target is touched."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from instar.errors import StoreError
from instar.model.digest import Digest
from instar.model.image import Layer
from instar.store import Store
from instar.store.compression import compressed
from instar.store.header import DIRECTORY, HARD_LINK, PAX_GLOBAL, REGULAR, SYMLINK, Entry, encode, padding
from instar.store.manifest import GZIP_LAYER_TYPE

pytestmark = pytest.mark.root
OPAQUE = "trusted.overlay.opaque"


class Target:
    """Where a tar is unpacked, with something precious beside it."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "room/out"
        self.store = Store(tmp_path / "store")
        self.precious = tmp_path / "room/precious"
        self.precious.mkdir(parents=True)
        (self.precious / "file").write_text("precious")

    def unpack(self, data: bytes, *, limit_bytes: int = 1 << 30) -> Path:
        digest, size = self.store.add_blob(compressed([data]))
        layer = Layer(digest=digest, diff_id=Digest.of(data), size_bytes=size)
        try:
            self.store.unpack(layer, self.root, limit_bytes=limit_bytes)
        finally:
            status = (self.precious / "file").stat()
            assert sorted(path.name for path in self.root.parent.iterdir()) == ["out", "precious"]
            assert [path.name for path in self.precious.iterdir()] == ["file"]
            assert ((self.precious / "file").read_text(), status.st_nlink, status.st_uid) == ("precious", 1, 0)
        return self.root


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target(tmp_path)


def tar(*members: Entry | tuple[Entry, bytes]) -> bytes:
    return b"".join(blocks(members)) + bytes(1024)


def blocks(members: Iterable[Entry | tuple[Entry, bytes]]) -> Iterable[bytes]:
    for member in members:
        entry, body = member if isinstance(member, tuple) else (member, b"")
        entry.size = len(body)
        yield encode(entry) + body + padding(len(body))


def file(name: bytes, body: bytes = b"bad", **fields: object) -> tuple[Entry, bytes]:
    return Entry(name=name, kind=REGULAR, mode=0o644, **fields), body  # type: ignore[arg-type]


def folder(name: bytes, mode: int = 0o755) -> Entry:
    return Entry(name=name, kind=DIRECTORY, mode=mode)


def link(name: bytes, to: bytes) -> Entry:
    return Entry(name=name, kind=SYMLINK, mode=0o777, link=to)


def hard(name: bytes, to: bytes) -> Entry:
    return Entry(name=name, kind=HARD_LINK, link=to)


def globally(records: Mapping[bytes, bytes]) -> tuple[Entry, bytes]:
    """What a tar says of all members that follow."""
    return Entry(name=b"all", kind=PAX_GLOBAL, mode=0o644), b"".join(map(_record, *zip(*records.items(), strict=True)))


def _record(key: bytes, value: bytes) -> bytes:
    rest = len(key) + len(value) + 3
    return b"%d %b=%b\n" % (rest + len(str(rest + len(str(rest)))), key, value)


REFUSED = {
    "parent": ([file(b"../precious/file")], "leads out"),
    "parent inside": ([folder(b"a/"), file(b"a/../../precious/file")], "leads out"),
    "parent alone": ([folder(b"..")], "leads out"),
    "link to the parent": ([link(b"a", b".."), file(b"a/precious/file")], "leads through '/a'"),
    "absolute link": ([link(b"a", b"/tmp"), file(b"a/file")], "leads through '/a'"),
    "link of links": ([link(b"a", b"."), link(b"b", b"a/.."), file(b"b/precious/file")], "leads through '/b'"),
    "folder through a link": ([link(b"a", b"../precious"), folder(b"a/b/")], "leads through '/a'"),
    "folder over a link": ([link(b"a", b"../precious"), folder(b"a/", 0o777)], "leads through '/a'"),
    "link through a link": ([link(b"a", b"../precious"), link(b"a/b", b"x")], "leads through '/a'"),
    "whiteout through a link": ([link(b"a", b"../precious"), file(b"a/.wh.file", b"")], "leads through '/a'"),
    "opaque through a link": ([link(b"a", b"../precious"), file(b"a/.wh..wh..opq", b"")], "leads through '/a'"),
    "hard link out": ([hard(b"a", b"../precious/file")], "leads out"),
    "hard link through a link": ([link(b"a", b"../precious"), hard(b"b", b"a/file")], "leads through '/a'"),
    "hard link to a link": ([link(b"a", b"../precious/file"), hard(b"b", b"a")], "no file"),
    "hard link to a folder": ([folder(b"a/"), hard(b"b", b"a")], "no file"),
    "hard link to the root": ([hard(b"b", b".")], "layer doesn't have|no file"),
    "hard link to nothing": ([hard(b"b", b"a")], "layer doesn't have"),
    "hard link into nothing": ([hard(b"b", b"a/b")], "layer doesn't have"),
    "hard link to a whiteout": ([file(b".wh.a", b""), hard(b"b", b"a")], "no file"),
    "character device": ([Entry(name=b"null", kind=b"3", mode=0o666)], "device"),
    "block device": ([Entry(name=b"sda", kind=b"4", mode=0o666)], "device"),
    "pipe": ([Entry(name=b"pipe", kind=b"6", mode=0o666)], "pipe"),
    "unknown kind": ([Entry(name=b"x", kind=b"Z")], "type"),
    "sparse": ([Entry(name=b"x", kind=b"S")], "sparse"),
    "whiteout of nothing": ([file(b".wh.", b"")], "whiteout"),
    "whiteout of the folder": ([file(b".wh..", b"")], "whiteout"),
    "whiteout of the parent": ([folder(b"a/"), file(b"a/.wh...", b"")], "whiteout"),
    "unknown whiteout": ([file(b".wh..wh.plnk", b"")], "whiteout"),
    "whiteout that is a link": ([link(b".wh.a", b"b")], "whiteout"),
    "whiteout that is a folder": ([folder(b".wh.a/")], "whiteout"),
    "file in a whiteout": ([file(b".wh.a/b")], "removed"),
    "root that is a file": ([file(b"./.")], "root is a directory"),
    "root that is a link": ([link(b".", b"/")], "root is a directory"),
    "file over a folder": ([folder(b"a/"), file(b"a/b"), file(b"a")], "was a directory"),
    "folder over a file": ([file(b"a"), folder(b"a/")], "leads through '/a'"),
    "name of 256 bytes": ([file(b"n" * 256)], "too long"),
    "name of 4096 bytes": ([file(b"n/" * 2047 + b"nn")], "too long"),
    "link of 5000 bytes": ([link(b"a", b"l" * 5000)], "too long"),
    "deeper than anybody walks": ([file(b"n/" * 1500 + b"n")], "nested more than 256 deep"),
    "folder deeper than anybody walks": ([folder(b"n/" * 300)], "nested more than 256 deep"),
    "much said of all": ([globally({b"%07x" % number: b"" for number in range(80_000)}), file(b"a")], "of all its"),
    "attribute of all": ([globally({b"SCHILY.xattr.user.a": bytes(60_000)}), file(b"a", b"")], "of all its members"),
    "map of holes of all": ([globally({b"GNU.sparse.size": b"9"}), file(b"a", b"")], "of all its members"),
    "attribute with a zero byte": ([file(b"a", b"", xattrs={"user.a\0b": b"x"})], "null|zero"),
    "owner -1": ([file(b"a", uid=2**32 - 1)], "number is"),
    "attribute that is too large": ([file(b"a", xattrs={"user.a": bytes(70_000)})], "a"),
}


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.replace(" ", "-"))
def test_it_is_refused(target: Target, case: str) -> None:
    members, cause = REFUSED[case]
    with pytest.raises(StoreError, match=cause) as caught:
        target.unpack(tar(*members))
    assert type(caught.value) is StoreError
    assert caught.value.message.startswith("cannot unpack layer")


def test_an_absolute_name_means_the_root_of_the_image(target: Target) -> None:
    out = target.unpack(tar(file(b"/etc/passwd"), hard(b"//etc/./alias", b"/etc/passwd")))
    assert (out / "etc/passwd").read_bytes() == (out / "etc/alias").read_bytes() == b"bad"


def test_attributes_of_the_overlay_are_not_smuggled_in(target: Target) -> None:
    smuggled = dict.fromkeys(
        (OPAQUE, "trusted.overlay.redirect", "user.overlay.opaque", "trusted.x", "security.selinux", "user.mine"), b"y"
    )
    entry = folder(b"a/")
    entry.xattrs = smuggled
    out = target.unpack(tar(entry, file(b"a/f", xattrs=smuggled)))
    assert os.listxattr(out / "a") == os.listxattr(out / "a/f") == ["user.mine"]


def is_whiteout(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(path: Path) -> bool:
    return OPAQUE in os.listxattr(path) and os.getxattr(path, OPAQUE) == b"y"


@pytest.mark.parametrize("whiteout_first", [True, False])
def test_a_whiteout_means_the_layers_beneath_and_not_its_own(target: Target, *, whiteout_first: bool) -> None:
    removed = [file(b".wh.file", b""), file(b".wh.folder", b""), file(b".wh.implied", b""), file(b".wh.gone", b"")]
    there = [file(b"file", b"mine"), folder(b"folder/"), file(b"folder/f", b"mine"), file(b"implied/f", b"mine")]
    out = target.unpack(tar(*(removed + there if whiteout_first else there + removed)))
    assert (out / "file").read_bytes() == b"mine"
    assert (out / "folder/f").read_bytes() == b"mine"
    assert is_opaque(out / "folder")
    assert is_opaque(out / "implied")
    assert is_whiteout(out / "gone")
    assert not is_opaque(out)


def test_an_opaque_marker_may_come_before_its_folder_and_last(target: Target) -> None:
    out = target.unpack(
        tar(file(b"a/.wh..wh..opq", b""), folder(b"a/", 0o700), file(b"a/f"), file(b".wh..wh..opq", b""))
    )
    assert is_opaque(out / "a")
    assert is_opaque(out)
    assert stat.S_IMODE((out / "a").stat().st_mode) == 0o700


def test_the_last_of_two_of_a_name_is_it_and_links_to_the_first_keep_theirs(target: Target) -> None:
    out = target.unpack(
        tar(file(b"a", b"first"), hard(b"b", b"a"), file(b"a", b"second"), link(b"c", b"b"), file(b"c"))
    )
    assert ((out / "a").read_bytes(), (out / "b").read_bytes(), (out / "c").read_bytes()) == (
        b"second",
        b"first",
        b"bad",
    )
    assert not (out / "c").is_symlink()


def test_a_hard_link_to_itself_is_nothing(target: Target) -> None:
    assert (target.unpack(tar(file(b"a"), hard(b"a", b"./a"))) / "a").read_bytes() == b"bad"


def test_a_folder_that_comes_twice_is_as_the_second_says(target: Target) -> None:
    out = target.unpack(tar(folder(b"a/", 0o700), file(b"a/f"), folder(b"a/", 0o2755)))
    assert stat.S_IMODE((out / "a").stat().st_mode) == 0o2755
    assert (out / "a/f").exists()


def test_folders_that_are_not_said_are_made_alike(target: Target) -> None:
    before = os.umask(0o077)
    try:
        out = target.unpack(tar(file(b"a/b/f")))
    finally:
        os.umask(before)
    for path in (out, out / "a", out / "a/b"):
        status = path.stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime) == (0o755, 0, 0, 0)


def test_names_that_are_no_utf8_are_kept(target: Target) -> None:
    out = target.unpack(tar(file(b"\xff\xfe"), link(b"l\n", b"\xff")))
    assert sorted(os.fsencode(path.name) for path in out.iterdir()) == [b"l\n", b"\xff\xfe"]


def test_a_bomb_stops_at_the_limit(target: Target) -> None:
    with pytest.raises(StoreError, match=r"more than the 1,048,576 bytes"):
        target.unpack(tar(file(b"zeros", bytes(64 << 20))), limit_bytes=1 << 20)
    assert sum(path.stat().st_size for path in target.root.iterdir()) <= 1 << 20


def test_a_bomb_behind_the_end_stops_at_the_limit(target: Target) -> None:
    with pytest.raises(StoreError, match="more than the"):
        target.unpack(tar() + bytes(64 << 20), limit_bytes=1 << 20)


def test_what_stands_behind_the_end_is_ignored_and_an_empty_layer_is_one(target: Target) -> None:
    out = target.unpack(tar(file(b"a")) + tar(file(b"b")))
    assert [path.name for path in out.iterdir()] == ["a"]


def test_nothing_at_all_is_an_empty_layer(target: Target) -> None:
    assert not any(target.unpack(b"").iterdir())


@pytest.mark.parametrize("data", [b"x", b"x" * 511, b"x" * 5000, tar(file(b"a", b"x" * 5000))[:2000]])
def test_what_is_no_tar_is_refused(target: Target, data: bytes) -> None:
    with pytest.raises(StoreError, match="cannot unpack layer"):
        target.unpack(data)


def test_what_is_not_compressed_as_it_says_is_refused(target: Target) -> None:
    digest, size = target.store.add_blob([b"no zstd"])
    layer = Layer(digest=digest, diff_id=digest, size_bytes=size)
    for kind, told in ((layer.media_type, "not zstd"), (GZIP_LAYER_TYPE, "not gzip"), ("text/html", "its type is")):
        with pytest.raises(StoreError, match=told):
            target.store.unpack(replace(layer, media_type=kind), target.root)
