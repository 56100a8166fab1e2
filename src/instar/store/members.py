"""Bytes → the members of a tar. Nothing of it is trusted: every number and name is checked before it is passed on.

Read: v7, ustar, PAX (also as global headers), GNU's long names and binary numbers, and sparse files where they are
asked for. Refused: whatever else isn't a file, link, symbolic link or directory. Devices and pipes are passed on, for
the extraction to name them in its error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from instar.store import sparse
from instar.store.header import BLOCK, DIRECTORY, PAX, PAX_GLOBAL, REGULAR, XATTR_RECORD, Entry
from instar.store.room import ALLOWED

MEMBER_LIMIT: Final = 2_000_000
_EXTENDED_LIMIT_BYTES = 1 << 20
_GLOBALS_LIMIT = 100
_ID_LIMIT = (1 << 32) - 1  # -1 would leave an owner as it is
_TIME_LIMIT = 1 << 40
_GNU_LONG_NAME = b"L"
_GNU_LONG_LINK = b"K"
_DATALESS = frozenset(b"123456")
_OTHER_KINDS = frozenset(b"1234567\0")


class Malformed(ValueError):
    """The bytes are no tar, or one that isn't read here. Never leaves the store: it becomes a StoreError."""


class Stream:
    """A stream of chunks, read by exact counts. Raises Malformed when it ends early or passes its limit."""

    def __init__(self, chunks: Iterator[bytes], *, limit_bytes: int, why: str = ALLOWED) -> None:
        """``why`` is how "more than 3 bytes" goes on."""
        self._chunks = filter(None, chunks)
        self._limit_bytes = limit_bytes
        self._why = why
        self._chunk = memoryview(b"")
        self._came = 0

    def pieces(self, count: int) -> Iterator[memoryview]:
        """Yield the next ``count`` bytes, as they lie in memory."""
        while count:
            if not self._chunk and not self._next():
                raise Malformed("it ends in the middle")
            piece = self._chunk[:count]
            self._chunk = self._chunk[len(piece) :]
            count -= len(piece)
            yield piece

    def take(self, count: int) -> bytes:
        if len(self._chunk) >= count:
            piece = bytes(self._chunk[:count])
            self._chunk = self._chunk[count:]
            return piece
        return b"".join(self.pieces(count))

    def skip(self, count: int) -> None:
        for _ in self.pieces(count):
            pass

    def require(self, count: int) -> None:
        """Raise Malformed where the next ``count`` bytes would pass the limit; none of them is read."""
        self._require_allowed(self._came - len(self._chunk) + count)

    def ended(self) -> bool:
        return not self._chunk and not self._next()

    def drain(self) -> None:
        """Read what is left."""
        while self._next():
            pass

    def _require_allowed(self, size_bytes: int) -> None:
        if size_bytes > self._limit_bytes:
            raise Malformed(f"it holds more than the {self._limit_bytes:,} bytes {self._why}")

    def _next(self) -> bool:
        chunk = next(self._chunks, b"")
        self._came += len(chunk)
        self._require_allowed(self._came)
        self._chunk = memoryview(chunk)
        return bool(chunk)


class Members:
    """Iterate over it for the entries; :meth:`content` gives the data of the last one."""

    def __init__(
        self,
        stream: Stream,
        *,
        marked_end: bool = False,
        sparse_limit_bytes: int | None = None,
        limit: int = MEMBER_LIMIT,
    ) -> None:
        """``marked_end``: a tar without the block of zeros at its end is malformed, as part of it may be missing.

        ``sparse_limit_bytes``: sparse files are read, of that many bytes together with their holes; None: refused.
        """
        self._sparse_left = sparse_limit_bytes
        self._regions: list[sparse.Region] | None = None  # of the last member, if it is sparse
        self._size = 0
        self._stream = stream
        self._marked_end = marked_end
        self._limit = limit
        self._missing = 0  # bytes of the last member's data that weren't read yet
        self._padding = 0
        self._globals: dict[bytes, bytes] = {}
        self._globals_bytes = 0
        self._records_bytes = 0  # for the next member

    def __iter__(self) -> Iterator[Entry]:
        """Yield each member, in order. Raises Malformed."""
        records: dict[bytes, bytes] = {}
        for count, block in enumerate(self._blocks()):
            if count > self._limit:
                raise Malformed(f"it holds more than {self._limit:,} members")
            kind = block[156:157]
            if kind == PAX_GLOBAL:
                self._add_globals(_pax(self._extended(block)))
            elif kind == PAX:
                records.update(_pax(self._extended(block)))
            elif kind in (_GNU_LONG_NAME, _GNU_LONG_LINK):
                key = b"path" if kind == _GNU_LONG_NAME else b"linkpath"
                records[key] = self._extended(block).partition(b"\0")[0]
            else:
                together = {**self._globals, **records}
                entry = self._entry(block, together)
                self._padding = -self._missing % BLOCK
                if sparse.is_sparse(kind, together):
                    self._open_sparse(block, together, entry)
                records, self._records_bytes = {}, 0
                yield entry

    def _add_globals(self, records: Mapping[bytes, bytes]) -> None:
        """Take what is said of all members that follow: it costs anew with each of them, and is few plain things."""
        self._globals.update(records)
        if len(self._globals) > _GLOBALS_LIMIT:
            raise Malformed(f"it says more than {_GLOBALS_LIMIT} things of all its members")
        if any(key.startswith((XATTR_RECORD, sparse.RECORD)) for key in records):
            raise Malformed("it says of all its members what can only be said of one")

    @property
    def regions(self) -> Sequence[sparse.Region] | None:
        """Where the member that was yielded last has something, if it has holes."""
        return self._regions

    def located(self) -> Iterator[tuple[int, memoryview]]:
        """Yield the data of the member that was yielded last, each piece with its offset; of holes nothing."""
        whole = [(0, self._missing)]
        yield from sparse.located(whole if self._regions is None else self._regions, self._pieces)

    def content(self) -> Iterator[memoryview]:
        """Yield the data of the member that was yielded last."""
        if self._regions is None:
            yield from self._pieces(self._missing)
        else:
            yield from sparse.filled(self._regions, self._size, self._pieces)

    def _pieces(self, count: int) -> Iterator[memoryview]:
        if count > self._missing:
            raise Malformed("the map of a sparse file is damaged")
        for piece in self._stream.pieces(count):
            self._missing -= len(piece)
            yield piece

    def _entry(self, block: bytes, records: Mapping[bytes, bytes]) -> Entry:
        self._regions = None
        entry = _entry(block, records)
        self._stream.require(entry.size)
        self._missing = entry.size
        return entry

    def _open_sparse(self, block: bytes, records: Mapping[bytes, bytes], entry: Entry) -> None:
        """Read the map of a sparse member; its size becomes that of the file with its holes."""
        if self._sparse_left is None:
            raise Malformed("it has a sparse file")
        try:
            if block[156:157] == sparse.OLD_GNU:
                self._regions, self._size = sparse.old_map(block, _number, self._stream.take)
            else:
                self._regions, self._size, taken = sparse.pax_map(records, self._stream.take)
                self._missing -= taken
        except sparse.WrongMap as error:
            raise Malformed(str(error)) from error
        self._sparse_left -= self._size
        if self._sparse_left < 0 or self._missing < sum(length for _, length in self._regions):
            raise Malformed("it has a sparse file that is larger than allowed, or not whole")
        entry.size, entry.name = self._size, sparse.name_of(records) or entry.name

    def _blocks(self) -> Iterator[bytes]:
        """Yield header blocks until the end of the archive; what comes after it is read and ignored."""
        while self._marked_end or not self._stream.ended():
            block = self._stream.take(BLOCK)
            if not any(block):
                break
            if not _is_checked(block):
                raise Malformed("a header's checksum is wrong")
            yield block
            self._stream.skip(self._missing + self._padding)
            self._missing = self._padding = 0
        self._stream.drain()

    def _extended(self, block: bytes) -> bytes:
        size = _number(block[124:136])
        if not 0 <= size <= _EXTENDED_LIMIT_BYTES:
            raise Malformed(f"an extended header has {size:,} bytes")
        if block[156:157] == PAX_GLOBAL:
            self._globals_bytes += size
        else:
            self._records_bytes += size
        if self._globals_bytes + self._records_bytes > _EXTENDED_LIMIT_BYTES:
            raise Malformed(f"its extended headers have more than {_EXTENDED_LIMIT_BYTES:,} bytes for one member")
        data = self._stream.take(size)
        self._padding = -size % BLOCK
        return data


def begins_tar(start: bytes) -> bool:
    """Tell whether a file that begins with these bytes is a tar: that of Unix version 7 has no mark, and a checksum."""
    try:
        return len(start) >= BLOCK and any(start[:BLOCK]) and _is_checked(start[:BLOCK])
    except Malformed:
        return False


def _is_checked(block: bytes) -> bool:
    return _number(block[148:156]) == sum(block) - sum(block[148:156]) + 8 * 0x20


def _entry(block: bytes, records: Mapping[bytes, bytes]) -> Entry:
    name = records.get(b"path") or _ustar_name(block)
    entry = Entry(
        name=name,
        kind=_kind(block, name),
        mode=_number(block[100:108]) & 0o7777,
        uid=_within(_decimal(records, b"uid", block[108:116]), _ID_LIMIT),
        gid=_within(_decimal(records, b"gid", block[116:124]), _ID_LIMIT),
        mtime=_within(_decimal(records, b"mtime", block[136:148]), _TIME_LIMIT),
        link=records.get(b"linkpath") or _text(block[157:257]),
        xattrs=_xattrs(records),
    )
    if b"\0" in entry.name or b"\0" in entry.link:
        raise Malformed("a name has a zero byte in it")
    if block[156] not in _DATALESS:
        entry.size = _within(_decimal(records, b"size", block[124:136]), 1 << 62)
    return entry


def _kind(block: bytes, name: bytes) -> bytes:
    kind = block[156:157]
    if kind in (REGULAR, b"\0", b"7", sparse.OLD_GNU):
        return DIRECTORY if name.endswith(b"/") else REGULAR
    if block[156] not in _OTHER_KINDS:
        raise Malformed(f"it has a member of type {kind!r}")
    return kind


def _ustar_name(block: bytes) -> bytes:
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else b""
    name = _text(block[:100])
    return prefix + b"/" + name if prefix else name


def _text(data: bytes) -> bytes:
    return data.partition(b"\0")[0]


def _number(data: bytes) -> int:
    """Read an octal number, or GNU's binary one."""
    if data[0] in (0x80, 0xFF):
        return int.from_bytes(data[1:], "big", signed=False) - (1 << 8 * (len(data) - 1) if data[0] == 0xFF else 0)
    digits = data.strip(b" \0") or b"0"
    if not digits.isdigit() or b"8" in digits or b"9" in digits:
        raise Malformed(f"{digits!r} is no octal number")
    return int(digits, 8)


def _decimal(records: Mapping[bytes, bytes], key: bytes, data: bytes) -> int:
    text = records.get(key)
    if text is None:
        return _number(data)
    whole, _, fraction = text.partition(b".")
    sign_free = whole.removeprefix(b"-")
    if len(whole) > 20 or not sign_free.isdigit() or (fraction and (key != b"mtime" or not fraction.isdigit())):
        raise Malformed(f"{key.decode()} is {text[:40]!r}")
    return int(whole)


def _within(value: int, limit: int) -> int:
    if not 0 <= value < limit:
        raise Malformed(f"a number is {value}")
    return value


def _pax(data: bytes) -> dict[bytes, bytes]:
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        digits, _, _ = data[at : at + 8].partition(b" ")
        end = at + int(digits) if digits.isdigit() else 0
        key, equals, value = data[at + len(digits) + 1 : max(end - 1, 0)].partition(b"=")
        if not at < end <= len(data) or data[end - 1 : end] != b"\n" or not key or not equals:
            raise Malformed("an extended header is damaged")
        records[key] = value
        at = end
    return records


def _xattrs(records: Mapping[bytes, bytes]) -> dict[str, bytes]:
    return {
        key[len(XATTR_RECORD) :].decode("utf-8", "surrogateescape"): value
        for key, value in records.items()
        if key.startswith(XATTR_RECORD)
    }
