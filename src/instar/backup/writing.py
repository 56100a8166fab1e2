"""Writing a backup: one pass, in bounded memory. The file appears whole, or not at all.

What is written has the name ``.NAME.RANDOM`` beside it until it is on the disk; one that a killed process has left goes
when the next backup of that name is made.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from instar import durable
from instar.backup.contents import MANIFEST, SUMMARY, Lost, Summary, Tally, head_of, manifest_json
from instar.errors import BackupError, InstarError
from instar.model.codec import canonical
from instar.model.sizes import size_text
from instar.store import sparse
from instar.store.header import BLOCK, REGULAR, Entry, encode, padding
from instar.store.room import free_room

_LARGE_BYTES: Final = 16 << 20  # room is looked for before what is larger
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Member(NamedTuple):
    """``content`` yields as many bytes as ``entry`` says; fewer or more are an error of the file that they are of.

    ``regions``: of a file with holes where it has something, as offsets and lengths; ``content`` yields that alone, and
    no piece that is of two of them.
    """

    entry: Entry
    content: Callable[[], Iterable[bytes]] = lambda: ()
    regions: Sequence[sparse.Region] | None = None

    @property
    def stored_bytes(self) -> int:
        """How many bytes of data it has in the backup."""
        if self.regions is None:
            return self.entry.size
        return len(sparse.map_of(self.regions)) + sum(length for _, length in self.regions)


def write(
    file: Path,
    summary: Summary,
    members: Iterable[Member],
    recipients: Sequence[Any],
    lost: Callable[[], Lost] = dict,
) -> int:
    """Write a backup to ``file``, for the age ``recipients`` if there are any; return its size in bytes. ``lost`` says
    which data of volumes was not among the ``members``, once these have ended.

    Raises BackupError for what the file system refuses, and whatever reading the members raises.
    """
    for path in _left_of(file):
        with contextlib.suppress(OSError):
            path.unlink()
    partial = file.with_name(f".{file.name}.{os.urandom(8).hex()}")
    with _reported(file):
        handle = os.open(partial, _NEW, 0o600)
        try:
            with os.fdopen(handle, "wb", buffering=1 << 20) as out:
                _write_all(out, tar(summary, _with_room(file.parent, members), lost), recipients)
            size_bytes = partial.stat().st_size
            durable.move(partial, file)
        finally:
            partial.unlink(missing_ok=True)
    return size_bytes


def _with_room(folder: Path, members: Iterable[Member]) -> Iterator[Member]:
    """Yield them. Raises BackupError before one that ``folder`` has no room for."""
    for one in members:
        size = one.stored_bytes
        if size > _LARGE_BYTES and size > (free := free_room(folder)[1]):
            shown = one.entry.name[:200].decode("utf-8", "backslashreplace")
            raise BackupError(
                f"cannot back up '{shown}': it has {size_text(size)}, and there is room for {size_text(free)} at "
                f"'{folder}'",
                hint="no backup was made; make it shorter, or name a file elsewhere",
            )
        yield one


def tar(summary: Summary, members: Iterable[Member], lost: Callable[[], Lost] = dict) -> Iterator[bytes]:
    """Yield the bytes of a backup."""
    tally = Tally()
    yield from _small(SUMMARY, canonical(summary))
    for entry, content, regions in members:
        head = head_of(entry, regions)
        tally.begin(entry, head)
        yield head
        if regions is not None:
            yield from _sparse(entry, regions, content, tally)
            continue
        missing = entry.size
        for chunk in content():
            missing -= len(chunk)
            if missing < 0:
                break
            tally.add(chunk)
            yield chunk
        if missing:
            shown = entry.name.decode("utf-8", "backslashreplace")
            raise BackupError(f"cannot back up '{shown}': it changed its size while it was read", hint="ask again")
        yield padding(entry.size)
    yield from _small(MANIFEST, manifest_json(tally.parts(), lost()))
    yield bytes(2 * BLOCK)


def _sparse(
    entry: Entry, regions: Sequence[sparse.Region], content: Callable[[], Iterable[bytes]], tally: Tally
) -> Iterator[bytes]:
    """Yield what a file with holes has in its regions."""
    chunks = iter(content())
    for _, length in regions:
        missing = length
        while missing:
            chunk = next(chunks, b"")
            if not chunk or len(chunk) > missing:
                shown = entry.name.decode("utf-8", "backslashreplace")
                raise BackupError(f"cannot back up '{shown}': it changed its size while it was read", hint="ask again")
            missing -= len(chunk)
            tally.add(chunk)
            yield chunk
    yield padding(sum(length for _, length in regions))


def _small(name: bytes, data: bytes) -> Iterator[bytes]:
    yield encode(Entry(name=name, kind=REGULAR, mode=0o600, size=len(data))) + data + padding(len(data))


def _write_all(out: Any, chunks: Iterator[bytes], recipients: Sequence[Any]) -> None:
    if not recipients:
        for chunk in chunks:
            out.write(chunk)
        return
    import pyrage  # whoever has recipients has it

    source = _Source(chunks)
    try:
        pyrage.encrypt_io(source, out, list(recipients))
    except Exception as error:
        if source.error is not None:
            raise source.error from None
        raise _refused(error) from error
    if source.error is not None:
        raise source.error


class _Source:
    """Chunks as a file to read. What goes wrong in them is remembered: age's library says of it only that it was."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.error: BaseException | None = None
        self._chunks = chunks
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        try:
            while not self._rest:
                chunk = next(self._chunks, None)
                if chunk is None:
                    return b""
                self._rest = memoryview(chunk)
        except BaseException as error:
            self.error = error
            raise
        piece, self._rest = self._rest[:size], self._rest[size:]
        return bytes(piece)


def _refused(error: Exception) -> Exception:
    """Return the OSError that age's library has put into words of its own, if it is one."""
    if isinstance(error, OSError):
        return error
    words = str(error)
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        if f"[Errno {number}]" in words:
            return OSError(number, os.strerror(number))
    return BackupError(f"cannot encrypt the backup: {words.splitlines()[0] if words else 'age failed'}")


def _left_of(file: Path) -> list[Path]:
    return [one for one in durable.leftovers(file.parent) if one.name.rpartition(".")[0] == f".{file.name}"]


@contextlib.contextmanager
def _reported(file: Path) -> Iterator[None]:
    try:
        yield
    except InstarError:
        raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise BackupError(
            f"cannot write the backup '{file}': {(error.strerror or str(error)).lower()}",
            hint=f"make room at '{file.parent}', or name a file elsewhere" if full else None,
        ) from error
