"""Whatever the tree, its layer holds it; whatever the bytes, unpacking them is safe."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.errors import StoreError
from instar.model.digest import Digest
from instar.model.image import Layer
from instar.store import Store
from instar.store.compression import compressed
from instar.store.header import DIRECTORY, HARD_LINK, REGULAR, SYMLINK, Entry, encode, padding
from instar.store.tree import archive

pytestmark = pytest.mark.root
EPOCH = 1_700_000_000

names = (
    st.binary(min_size=1, max_size=12)
    .map(lambda raw: raw.replace(b"/", b"-").replace(b"\0", b"-"))
    .filter(lambda name: name not in (b".", b"..") and not name.startswith(b".wh."))
)
long_names = st.integers(90, 255).map(lambda length: b"n" * length)
modes = st.integers(0, 0o7777)
ids = st.sampled_from([0, 1, 1000, 0o7777777, 0o10000000, 2**32 - 2])
times = st.sampled_from([0, 1, 1_500_000_000, EPOCH, EPOCH + 1, 4_000_000_000])


@dataclass
class Node:
    kind: str
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    content: bytes = b""
    xattrs: dict[str, bytes] = field(default_factory=dict)
    children: dict[bytes, Node] = field(default_factory=dict)


xattrs = st.dictionaries(st.sampled_from(["user.a", "user.b", "user.ü"]), st.binary(max_size=40), max_size=2)
common = {"mode": modes, "uid": ids, "gid": ids, "mtime": times}
leaves = st.one_of(
    st.builds(Node, kind=st.just("file"), content=st.binary(max_size=1500), xattrs=xattrs, **common),
    st.builds(Node, kind=st.just("link"), content=names | long_names, uid=ids, gid=ids, mtime=times),
    st.builds(Node, kind=st.just("whiteout")),
)


def folders(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    children = st.dictionaries(names | long_names, inner, max_size=4)
    return st.builds(Node, kind=st.sampled_from(["folder", "opaque"]), children=children, xattrs=xattrs, **common)


trees = folders(st.recursive(leaves, folders, max_leaves=12))


def plant(node: Node, path: Path) -> None:
    if node.kind in ("folder", "opaque"):
        path.mkdir()
        for name, child in node.children.items():
            plant(child, path / os.fsdecode(name))
        if node.kind == "opaque":
            os.setxattr(path, "trusted.overlay.opaque", b"y")
    elif node.kind == "file":
        path.write_bytes(node.content)
    elif node.kind == "link":
        path.symlink_to(os.fsdecode(node.content))
    else:
        os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
        return
    os.chown(path, node.uid, node.gid, follow_symlinks=False)
    for name, value in node.xattrs.items():
        os.setxattr(path, name, value)
    if node.kind != "link":
        path.chmod(node.mode)
    os.utime(path, (node.mtime, node.mtime), follow_symlinks=False)


def expected(node: Node, path: str = ".") -> Iterator[tuple[object, ...]]:
    """What another reader of the tar should find, by the model."""
    rest = (node.uid, node.gid, min(node.mtime, EPOCH))
    if node.kind == "file":
        yield (path, "file", node.mode, *rest, node.content)
    elif node.kind == "link":
        yield (path, "link", 0o777, *rest, node.content)
    elif node.kind == "whiteout":
        above, _, name = path.rpartition("/")
        yield (f"{above}/.wh.{name}".removeprefix("/"), "file", 0, 0, 0, EPOCH, b"")
    else:
        yield (path, "folder", node.mode, *rest, b"")
        prefix = "" if path == "." else path + "/"
        if node.kind == "opaque":
            yield (f"{prefix}.wh..wh..opq", "file", 0, 0, 0, EPOCH, b"")
        for name, child in node.children.items():
            yield from expected(child, prefix + os.fsdecode(name))


def found(tar: bytes) -> Iterator[tuple[object, ...]]:
    with tarfile.open(fileobj=io.BytesIO(tar), errors="surrogateescape", encoding="utf-8") as members:
        for member in members:
            kind = "folder" if member.isdir() else "link" if member.issym() else "file"
            file = members.extractfile(member) if member.isreg() else None
            content = file.read() if file else os.fsencode(member.linkname)
            yield (member.name, kind, member.mode, member.uid, member.gid, int(member.mtime), content)


@contextlib.contextmanager
def workshop() -> Iterator[Path]:
    """A folder with names that are no UTF-8, which pytest's own clean-up could not tell."""
    path = Path(tempfile.mkdtemp())
    try:
        yield path
    finally:
        shutil.rmtree(os.fsencode(path))


@settings(max_examples=40, deadline=None)
@given(trees)
def test_a_layer_holds_its_tree(node: Node) -> None:
    with workshop() as place:
        plant(node, place / "tree")
        tar = b"".join(archive(place / "tree", epoch=EPOCH))
        assert sorted(found(tar), key=repr) == sorted(expected(node), key=repr)
        store = Store(place / "store")
        layer = store.add_layer(place / "tree", step="", epoch=EPOCH)
        assert layer.diff_id == Digest.of(tar)
        store.unpack(layer, place / "out")
        assert store.add_layer(place / "out", step="", epoch=EPOCH) == layer


inside = [b"a", b"b", b"a/b", b"a/b/c", b"/", b"./", b"/etc", b"\xff", b"a/" + b"n" * 300]
outside = [b"..", b"../x", b"a/../b", b"../precious", b"../precious/file", b"a/../../precious/file"]
markers = [b".wh.a", b"a/.wh.b", b".wh..wh..opq", b"a/.wh..wh..opq", b".wh.", b".wh..."]
words = st.sampled_from([*inside, *outside, *markers])
records = st.sampled_from(
    [
        b"13 path=../a\n",
        b"24 linkpath=../precious\n",
        b"33 SCHILY.xattr.user.overlay.x=y\n",
        b"9 size=9\n",
        b"?",
    ]
)
bodies = {REGULAR: st.binary(max_size=700), b"L": words, b"x": records, b"g": records}
kinds = st.sampled_from([REGULAR, HARD_LINK, SYMLINK, SYMLINK, DIRECTORY, b"3", b"6", b"S", b"x", b"g", b"L"])
smuggled = st.dictionaries(st.sampled_from(["trusted.overlay.opaque", "user.a", "user.b"]), st.binary(), max_size=1)


@st.composite
def members(draw: st.DrawFn) -> bytes:
    kind = draw(kinds)
    data = draw(bodies.get(kind, st.just(b"")))
    entry = Entry(
        name=draw(words), kind=kind, mode=draw(modes), size=len(data), link=draw(words), xattrs=draw(smuggled)
    )
    return encode(entry) + data + padding(len(data))


@settings(max_examples=80, deadline=None)
@given(
    parts=st.lists(members(), max_size=8),
    scratches=st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 255)), max_size=1),
    end=st.sampled_from([None, None, 700, 3_000]),
)
def test_whatever_the_bytes_nothing_outside_is_touched(
    parts: list[bytes], scratches: list[tuple[int, int]], end: int | None
) -> None:
    data = bytearray(b"".join(parts))
    for at, value in scratches:
        if at < len(data):
            data[at] = value
    tar = bytes(data[:end])
    with workshop() as place:
        store = Store(place / "store")
        (place / "room/precious").mkdir(parents=True)
        (place / "room/precious/file").write_text("precious")
        digest, size = store.add_blob(compressed([tar]))
        layer = Layer(digest=digest, diff_id=Digest.of(tar), size_bytes=size)
        with contextlib.suppress(StoreError):
            store.unpack(layer, place / "room/out")
        assert {path.name for path in (place / "room").iterdir()} <= {"out", "precious"}
        assert [path.name for path in (place / "room/precious").iterdir()] == ["file"]
        status = (place / "room/precious/file").stat()
        assert (status.st_nlink, status.st_uid, status.st_size) == (1, 0, 8)
        for path in (place / "room/out").rglob("*"):
            what = path.lstat()
            assert stat.S_IFMT(what.st_mode) in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK) or what.st_rdev == 0
