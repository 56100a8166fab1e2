"""A Debian package file: its control files and the members of its data. Nothing here runs or unpacks anything.

Source: deb(5): an ar archive of ``debian-binary``, ``control.tar`` and ``data.tar``, each tar compressed as its
name's end says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from instar.errors import BakeError
from instar.store.compression import plain
from instar.store.header import REGULAR
from instar.store.members import Malformed, Members, Stream

if TYPE_CHECKING:
    import zlib

_MAGIC = b"!<arch>\n"
_HEADER_BYTES = 60
_CHUNK_BYTES = 1 << 20
_MEMORY_LIMIT_BYTES = 1 << 29  # what one has to hold of what came before, at most
_CONTROL_LIMIT_BYTES = 64 << 20
_DATA_LIMIT_BYTES = 64 << 30


class Deb:
    """The package file at ``path``; ``name`` is the package's, for messages."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name

    def control(self) -> Mapping[str, bytes]:
        """Return the control files: name → content. Raises BakeError."""
        with self._members("control.tar", _CONTROL_LIMIT_BYTES) as members:
            found = {}
            for entry in members:
                name = entry.name.removeprefix(b"./").decode("utf-8", "surrogateescape")
                if entry.kind != REGULAR:
                    continue
                if "/" in name or name in ("", ".", ".."):
                    raise Malformed(f"{name!r} is no name of a control file")
                found[name] = b"".join(members.content())
            if "control" not in found:
                raise Malformed("it has no control file")
            return found

    def data(self) -> _Opened:
        """Open the members of what it installs. Raises BakeError, also while they are read."""
        return self._members("data.tar", _DATA_LIMIT_BYTES)

    def _members(self, part: str, limit_bytes: int) -> _Opened:
        return _Opened(self._path, self._name, part, limit_bytes)


class _Opened:
    """A context with the members of one part, in which what is malformed becomes a BakeError."""

    def __init__(self, path: Path, name: str, part: str, limit_bytes: int) -> None:
        self._path, self._name, self._part, self._limit_bytes = path, name, part, limit_bytes
        self._file: BinaryIO | None = None

    def __enter__(self) -> Members:
        self._file = self._path.open("rb", buffering=0)
        try:
            name, size = _find(self._file, self._part)
            chunks = decompressed(_chunks(self._file, size), name)
            return Members(Stream(chunks, limit_bytes=self._limit_bytes), marked_end=True)
        except Malformed as error:
            self._file.close()
            raise self._damaged(error) from error

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        assert self._file is not None
        self._file.close()
        if isinstance(error, Malformed):
            raise self._damaged(error) from error

    def _damaged(self, error: Malformed) -> BakeError:
        return BakeError(f"cannot unpack package '{self._name}': its {self._part} is malformed: {error}")


def _find(file: BinaryIO, part: str) -> tuple[str, int]:
    """Leave ``file`` at the beginning of the member whose name begins with ``part``; return its name and size."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise Malformed("not an ar archive")
    while header := file.read(_HEADER_BYTES):
        name, size = header[:16].rstrip(b" /").decode("ascii", "replace"), header[48:58].strip()
        if len(header) != _HEADER_BYTES or not size.isdigit():
            raise Malformed("a member's header is damaged")
        if name.startswith(part):
            return name, int(size)
        file.seek(int(size) + int(size) % 2, 1)
    raise Malformed("it is missing")


def _chunks(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size:
        chunk = file.read(min(size, _CHUNK_BYTES))
        if not chunk:
            raise Malformed("it ends in the middle")
        size -= len(chunk)
        yield chunk


def decompressed(chunks: Iterator[bytes], name: str) -> Iterator[bytes]:
    """Yield what ``chunks`` of a file called ``name`` unfold to. Raises Malformed."""
    kind = name.rpartition(".tar")[2]
    if kind not in _DECOMPRESSORS:
        raise Malformed(f"'{kind}' is no known compression")
    return _DECOMPRESSORS[kind](chunks)


def _xz(chunks: Iterator[bytes]) -> Iterator[bytes]:
    import lzma

    return _bounded(chunks, lambda: lzma.LZMADecompressor(memlimit=_MEMORY_LIMIT_BYTES), (lzma.LZMAError, EOFError))


def _bz2(chunks: Iterator[bytes]) -> Iterator[bytes]:
    import bz2

    return _bounded(chunks, bz2.BZ2Decompressor, (OSError, EOFError))


def _gzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    import zlib

    return _bounded(chunks, lambda: _Gunzip(zlib.decompressobj(wbits=31)), (zlib.error,))


def _zstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from plain(chunks)
    except Malformed:
        raise
    except ValueError as error:
        raise Malformed(str(error)) from error


def _bounded(
    chunks: Iterator[bytes], start: Callable[[], Any], failures: tuple[type[Exception], ...]
) -> Iterator[bytes]:
    """Yield at most a chunk at a time, however much a few bytes unfold to; one stream may follow another."""
    decompressor = None
    try:
        for chunk in chunks:
            rest = chunk
            while rest := rest if decompressor else rest.lstrip(b"\0"):  # streams may be padded
                decompressor = decompressor or start()
                yield decompressor.decompress(rest, _CHUNK_BYTES)
                while not decompressor.needs_input and not decompressor.eof:
                    yield decompressor.decompress(b"", _CHUNK_BYTES)
                rest = decompressor.unused_data
                if decompressor.eof:
                    decompressor = None
    except failures as error:
        raise Malformed(str(error)) from error
    if decompressor:
        raise Malformed("it ends in the middle")


class _Gunzip:
    """zlib's decompressor, as the other two are to be used."""

    def __init__(self, decompressor: zlib._Decompress) -> None:
        self._decompressor = decompressor
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._decompressor.eof

    @property
    def unused_data(self) -> bytes:
        return self._decompressor.unused_data

    def decompress(self, data: bytes, limit_bytes: int) -> bytes:
        held = self._decompressor.unconsumed_tail
        out = self._decompressor.decompress(held + data, limit_bytes)
        self.needs_input = not self._decompressor.unconsumed_tail and len(out) < limit_bytes
        return out


_DECOMPRESSORS: Mapping[str, Callable[[Iterator[bytes]], Iterator[bytes]]] = {
    "": lambda chunks: chunks,
    ".gz": _gzip,
    ".xz": _xz,
    ".bz2": _bz2,
    ".zst": _zstd,
}
