"""Baking once more, elsewhere and later: does the same come out, and where it doesn't, which file of which layer?

STATE/steps/check/   a state directory of its own, removed afterwards; one at a time: the caller holds the store

What is other there: the directory, the time, the umask, the order in which a directory lists its files, and nothing
that is known from before.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, BinaryIO

from instar.bake.baking import Baked, bake
from instar.bake.debian.keys import looks_secret
from instar.bake.packed import first_difference, why_packed
from instar.frozen import dataclass
from instar.host.filesystems import trees
from instar.host.filesystems.layers import LayerImages
from instar.host.kernel import mounts
from instar.model.image import Layer
from instar.model.state import StateDirectory
from instar.store import Store
from instar.store.compression import plain
from instar.store.hashed_files import HashedFiles
from instar.store.header import Entry
from instar.store.members import Members, Stream
from instar.store.room import UNPACK_LIMIT_BYTES

if TYPE_CHECKING:
    from instar.definition import Loaded
    from instar.fetch.cache import Cache
    from instar.model.lock import Lock
    from instar.model.progress import Report

_UMASK = 0o077
_READ_BYTES = 1 << 20
_CONTEXT_BYTES = 16
_LARGE_BYTES = 2 << 30  # of all files of a layer together, both times, that are looked into
_MOMENT = re.compile(rb"\d{4}-\d\d-\d\d|\d\d:\d\d|\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\b|\b1[6-9]\d{8}\b|\b20\d{6,}\b")


@dataclass(frozen=True, kw_only=True, slots=True)
class FileDifference:
    """One file that is not the same: in the layer of which step, where, and why, for people."""

    step: str
    path: str
    why: str


@dataclass(frozen=True, slots=True)
class _Member:
    entry: Entry
    sha256: str
    start: bytes


@contextlib.contextmanager
def baked_elsewhere(
    loaded: Loaded, *, lock: Lock, cache: Cache, state: StateDirectory, report: Report, bases: Store
) -> Iterator[tuple[Store, Baked]]:
    """Bake everything anew in a place of its own, which is gone afterwards. Layers of images that it stands on are of
    the store ``bases``. Raises what a bake raises."""
    folder = state.steps / "check"
    there = StateDirectory(folder, folder / "run")
    _clear(there)
    folder.mkdir(mode=0o700, parents=True)
    store, layers = _parts(there)
    umask = os.umask(_UMASK)
    try:
        _lend(bases, store, lock)
        baked = bake(loaded, lock=lock, store=store, cache=cache, layers=layers, state=there, report=report)
        os.umask(umask)
        yield store, baked
    finally:
        os.umask(umask)
        _clear(there)


def differences(store: Store, baked: Baked, other: Store, again: Baked) -> Iterator[FileDifference]:
    """Yield what is not the same in two images, layer by layer. Raises BlobDamaged, StoreError."""
    for one, two in zip(baked.steps, again.steps, strict=True):
        if one.layer.diff_id == two.layer.diff_id:
            continue
        before, after = _members(store, one.layer), _members(other, two.layer)
        large = _large(before, after)
        with _contents(store, one.layer, large) as old, _contents(other, two.layer, large) as new:
            for name in sorted(before.keys() | after.keys()):
                if why := _why(before.get(name), after.get(name), old.get(name), new.get(name)):
                    shown = "/" + name.removeprefix(b"./").decode("utf-8", "backslashreplace")
                    yield FileDifference(step=one.step, path=shown, why=why)


def _large(before: Mapping[bytes, _Member], after: Mapping[bytes, _Member]) -> set[bytes]:
    """Return the names of files that are not the same, and of which not all is known: as many as are looked into."""
    found, left = set(), _LARGE_BYTES
    for name in sorted(before.keys() & after.keys()):
        one, two = before[name], after[name]
        if one.sha256 != two.sha256 and not (one.start and two.start):
            left -= one.entry.size + two.entry.size
            if left < 0:
                break
            found.add(name)
    return found


@contextlib.contextmanager
def _contents(store: Store, layer: Layer, names: set[bytes]) -> Iterator[Mapping[bytes, BinaryIO]]:
    """Give what files of a layer hold, as files that are gone afterwards."""
    with contextlib.ExitStack() as opened:
        found: dict[bytes, BinaryIO] = {}
        if names:
            file = opened.enter_context(store.path(layer.digest).open("rb"))
            members = Members(Stream(plain(_chunks(file.fileno())), limit_bytes=UNPACK_LIMIT_BYTES))
            for entry in members:
                if entry.name in names:
                    found[entry.name] = opened.enter_context(tempfile.TemporaryFile())
                    for piece in members.content():
                        found[entry.name].write(piece)
        yield found


def _lend(bases: Store, store: Store, lock: Lock) -> None:
    for locked in (lock, *lock.build.values()):
        for layer in locked.base.layers if locked.base is not None else ():
            if layer is not None and bases.holds(layer) and not store.holds(layer):
                with bases.path(layer.digest).open("rb") as file:
                    store.add_blob(_chunks(file.fileno()))


def _parts(there: StateDirectory) -> tuple[Store, LayerImages]:
    store = Store(there.store)
    return store, LayerImages(store, there.layers, there.mounts, HashedFiles(there.sealed))


def _clear(there: StateDirectory) -> None:
    """Remove what is there, of this check or of one that was killed."""
    if there.root.is_dir():
        from instar.bake.scratch import clear_leftovers

        clear_leftovers(there.steps)
        _parts(there)[1].prune((), tuple)
        mounts.unmount_all(there.root)
        trees.remove(there.root)


def _members(store: Store, layer: Layer) -> Mapping[bytes, _Member]:
    with store.path(layer.digest).open("rb") as file:
        members = Members(Stream(plain(_chunks(file.fileno())), limit_bytes=UNPACK_LIMIT_BYTES))
        return {entry.name: _member(entry, members) for entry in members}


def _member(entry: Entry, members: Members) -> _Member:
    seen, start = hashlib.sha256(), bytearray()
    for piece in members.content():
        seen.update(piece)
        start += piece[: max(0, _READ_BYTES - len(start))]
    return _Member(entry, seen.hexdigest(), b"" if len(start) == _READ_BYTES else bytes(start))


def _chunks(descriptor: int) -> Iterator[bytes]:
    while chunk := os.read(descriptor, _READ_BYTES):
        yield chunk


def _why(one: _Member | None, two: _Member | None, old: BinaryIO | None = None, new: BinaryIO | None = None) -> str:
    """Say why two members are not the same, of which ``old`` and ``new`` are what large ones hold; nothing when they
    are."""
    if one is None or two is None:
        return "it is there only once of two times"
    for what, before, after in (
        ("its kind", one.entry.kind, two.entry.kind),
        ("its mode", oct(one.entry.mode), oct(two.entry.mode)),
        ("its owner", f"{one.entry.uid}:{one.entry.gid}", f"{two.entry.uid}:{two.entry.gid}"),
        ("its target", one.entry.link, two.entry.link),
        ("its time", one.entry.mtime, two.entry.mtime),
        ("its attributes", dict(one.entry.xattrs), dict(two.entry.xattrs)),
    ):
        if before != after and one.sha256 == two.sha256:
            return f"{what} is {_shown(before)}, then {_shown(after)}"
    if one.sha256 == two.sha256:
        return ""
    if old is None or new is None:
        if not one.start or not two.start:
            return f"its content differs ({one.entry.size:,} bytes, then {two.entry.size:,})"
        old, new = io.BytesIO(one.start), io.BytesIO(two.start)
    return _why_content(one, two, old, new)


def _why_content(one: _Member, two: _Member, old: BinaryIO, new: BinaryIO) -> str:
    if packed := why_packed(old, new):
        return packed
    if looks_secret(one.start) and looks_secret(two.start):
        return "it looks like a key or a secret, which is another one each time"
    at = first_difference(old, new)
    if at is None or at >= min(one.entry.size, two.entry.size):
        return f"it has {one.entry.size:,} bytes, then {two.entry.size:,}"
    before, after = _around(old, at), _around(new, at)
    kind = "a moment is written in it" if _MOMENT.search(before) and _MOMENT.search(after) else "it differs"
    return f"{kind}, from byte {at:,}: {before!r}, then {after!r}"


def _around(content: BinaryIO, at: int) -> bytes:
    content.seek(max(0, at - _CONTEXT_BYTES))
    return content.read(at + _CONTEXT_BYTES - content.tell())


def _shown(value: object) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


@dataclass(frozen=True, kw_only=True, slots=True)
class BakeCheck:
    """``baked`` is in the store; ``differences`` are what was not the same when it was baked once more."""

    baked: Baked
    differences: tuple[FileDifference, ...]
