"""Reading a backup: one pass, in bounded memory. Nothing in it is trusted before it was checked.

Of an age file, what comes out of it is genuine up to the byte, and its end is known; of a plain one the manifest at its
end says whether all before it is what was put in. So whoever reads acts by nothing before the end was reached.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from instar import durable, threads
from instar.backup.contents import (
    HASHED_LIMIT_BYTES,
    HOLES_HASHED,
    LEDGER,
    MANIFEST,
    SMALL_BYTES,
    SUMMARY,
    Lost,
    Part,
    Summary,
    Tally,
    blob_of,
    damaged,
    head_of,
    is_of_volumes,
    no_backup,
    read_summary,
    require_manifest,
    require_member,
)
from instar.errors import BackupError, UsageError
from instar.store.header import REGULAR, Entry
from instar.store.members import Malformed, Members, Stream, begins_tar

_CHUNK_BYTES: Final = 1 << 18
_AGE: Final = b"age-encryption.org/"
_MEMBERS_LIMIT: Final = 1 << 40
_LIMIT_BYTES: Final = 1 << 62


class Backup:
    """A backup that is open, its summary read."""

    def __init__(self, file: str, chunks: Iterator[bytes], *, encrypted: bool) -> None:
        """Read its first member. Raises BackupNewer, BackupDamaged, BackupError."""
        self.encrypted = encrypted
        self._file = file
        stream = Stream(chunks, limit_bytes=_LIMIT_BYTES)
        self._members = Members(stream, marked_end=True, sparse_limit_bytes=_LIMIT_BYTES, limit=_MEMBERS_LIMIT)
        self._entries = iter(self._members)
        with self._explained():
            first = next(self._entries, None)
            if first is None or first.name != SUMMARY:
                raise no_backup(file)
            self.summary: Summary = read_summary(self._small(first), file)
        self._holes_hashed = self.summary.format <= HOLES_HASHED
        self.parts: Mapping[str, Part] = {}
        self.lost: Lost = {}

    def members(self) -> Iterator[tuple[Entry, Iterator[tuple[int, memoryview]]]]:
        """Yield each member with its data, which is read, or skipped, before the next: pieces with their offsets, and
        none of holes. Having ended means that all of it is what was put in. Raises BackupDamaged."""
        tally, manifest, ledgers, hashed_bytes = Tally(), None, 0, 0
        with self._explained():
            for entry in self._entries:
                if manifest is not None:
                    raise damaged(self._file, "there is something behind its manifest")
                if entry.name == MANIFEST:
                    manifest = self._small(entry)
                    continue
                require_member(entry, self._file)
                regions = self._members.regions
                if regions is not None and not is_of_volumes(entry):
                    raise damaged(self._file, "it has a file with holes where no backup has any")
                if regions is not None and self._holes_hashed:
                    regions, hashed_bytes = None, hashed_bytes + entry.size
                    if hashed_bytes > HASHED_LIMIT_BYTES:
                        raise damaged(self._file, "its files with holes are larger than those of any backup")
                ledgers += entry.name == LEDGER
                if ledgers > 1:
                    raise damaged(self._file, "its ledger is there twice")
                tally.begin(entry, head_of(entry, regions))
                content = self._content(entry, tally)
                yield entry, content
                for _ in content:
                    pass
        if manifest is None:
            raise damaged(self._file, "its manifest is missing")
        if not ledgers:
            raise damaged(self._file, "its ledger is missing")
        self.parts = tally.parts()
        self.lost = require_manifest(manifest, self.parts, self._file)

    def _content(self, entry: Entry, tally: Tally) -> Iterator[tuple[int, memoryview]]:
        blob, seen, at = blob_of(entry), hashlib.sha256(), 0
        with self._explained():
            for offset, piece in self._members.located():
                if self._holes_hashed:
                    tally.add_zeros(offset - at)
                    at = offset + len(piece)
                tally.add(piece)
                if blob is not None:
                    seen.update(piece)
                yield offset, piece
            if self._holes_hashed:
                tally.add_zeros(entry.size - at)
        if blob is not None and seen.hexdigest() != blob.hex:
            raise damaged(self._file, f"the bytes of its blob '{blob.short}' are others")

    def _small(self, entry: Entry) -> bytes:
        if entry.kind != REGULAR or entry.size > SMALL_BYTES:
            raise damaged(self._file, f"'{entry.name.decode('utf-8', 'backslashreplace')}' is no small file")
        return b"".join(self._members.content())

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except Malformed as error:
            raise damaged(self._file, str(error)) from error


@contextlib.contextmanager
def opened(file: Path, identities: Callable[[], Sequence[Any]]) -> Iterator[Backup]:
    """Open a backup. ``identities`` returns those of age that may read it; it is asked only where it is encrypted.

    Raises UsageError where there is no file to read; BackupError where it is none, or for other keys; BackupNewer,
    BackupDamaged.
    """
    try:
        source = durable.reader(file)
    except OSError as error:
        raise UsageError(f"cannot read the backup '{file}': {(error.strerror or str(error)).lower()}") from error
    with source:
        start = source.peek(512)[:512]
        encrypted = start.startswith(_AGE)
        if not encrypted and not begins_tar(start):
            raise no_backup(str(file)) if start else damaged(str(file), "it is empty")
        chunks = _decrypted(source, file, identities()) if encrypted else _plain(source, file)
        with contextlib.closing(chunks):
            yield Backup(str(file), chunks, encrypted=encrypted)


def _plain(source: BinaryIO, file: Path) -> Generator[bytes, None, None]:
    try:
        while chunk := source.read(_CHUNK_BYTES):
            yield chunk
    except OSError as error:
        raise BackupError(f"cannot read the backup '{file}': {(error.strerror or str(error)).lower()}") from error


def _decrypted(source: BinaryIO, file: Path, identities: Sequence[Any]) -> Generator[bytes, None, None]:
    """Yield what an age file holds. Its library writes, and we read: it has a thread of its own."""
    import pyrage  # whoever has identities has it

    reading, writing = os.pipe2(os.O_CLOEXEC)
    failures: list[Exception] = []

    def decrypt() -> None:
        try:
            with os.fdopen(writing, "wb", buffering=_CHUNK_BYTES) as out:
                pyrage.decrypt_io(source, out, list(identities))
        except Exception as error:
            failures.append(error)

    thread = threads.begin(decrypt, "age")
    try:
        with os.fdopen(reading, "rb", buffering=0) as out:
            while chunk := out.read(_CHUNK_BYTES):
                yield chunk
    finally:
        thread.join()
    for error in failures:
        raise _unreadable(file, error, pyrage.DecryptError) from error


def _unreadable(file: Path, error: Exception, refused: type[Exception]) -> BackupError:
    words = str(error)
    if isinstance(error, refused) and words == "No matching keys found":
        return BackupError(
            f"cannot read the backup '{file}': it is encrypted for other keys than the ones here",
            hint="name the file with the identity that it is for: -i FILE; nothing was changed here",
        )
    if isinstance(error, OSError) and error.errno is not None:
        return BackupError(f"cannot read the backup '{file}': {(error.strerror or words).lower()}")
    return damaged(str(file), "it is cut off, or was changed: age cannot decrypt it any further")
