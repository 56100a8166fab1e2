"""Blobs on disk: each in a file named by its digest, whole or not there at all.

ROOT/
├── blobs/sha256/HEX    mode 0400, never changed once it is there
└── partial/            what is being written; the writer holds a flock on it, so that what a dead one left is known

A blob is written to ``partial/``, hashed on the way, and then gets its name down to the disk (``durable.py``): a crash
leaves at most a file in ``partial/``, which nobody reads and :meth:`Blobs.stale` finds. Two that write the same blob
each rename the same bytes to the same name. Storing a blob again replaces it, so that a damaged one is healed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from instar import durable
from instar.errors import BlobDamaged
from instar.model.digest import Digest
from instar.store.faults import refusal, reported

_READ_BYTES = 1 << 20
_JSON_LIMIT_BYTES = 4 << 20  # Source: OCI distribution-spec 1.1, the least that every registry takes for a manifest


class PartialFile(NamedTuple):
    """A file in ``partial/`` that is being written."""

    path: Path
    descriptor: int


class Blobs:
    """The blobs of the store at ``root``."""

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs" / "sha256"
        self.partial = root / "partial"

    def make(self) -> None:
        """Make the directories where they are missing."""
        for directory in (self._blobs.parent, self._blobs, self.partial):
            directory.mkdir(mode=0o700, exist_ok=True)

    def path(self, digest: Digest) -> Path:
        return self._blobs / digest.hex

    def add(self, chunks: Iterable[bytes], expected: Digest | None = None) -> tuple[Digest, int]:
        """Store ``chunks`` as one blob; return its digest and size in bytes. Returning means stored, after a crash too.

        Whole or not at all, and idempotent. Raises StoreError, and ValueError for others than those of ``expected``.
        """
        with reported("store a blob", self.partial), self.scratch() as scratch:
            digest, size_bytes = written(chunks, scratch.descriptor)
            if expected not in (None, digest):
                raise ValueError(f"the bytes of '{expected}' have the digest {digest}")
            os.fchmod(scratch.descriptor, 0o400)
            durable.move(scratch.path, self.path(digest))
        return digest, size_bytes

    @contextlib.contextmanager
    def scratch(self) -> Iterator[PartialFile]:
        """Give a new file in ``partial/`` that is gone afterwards, unless it was renamed."""
        while True:
            path = self.partial / os.urandom(8).hex()
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                break
            os.close(descriptor)  # taken for stale between the two calls
        try:
            yield PartialFile(path, descriptor)
        finally:
            path.unlink(missing_ok=True)
            os.close(descriptor)

    def holds(self, digest: Digest, size_bytes: int) -> bool:
        """Whether the blob is there with that size; its bytes are not read."""
        try:
            return self.path(digest).stat().st_size == size_bytes
        except FileNotFoundError:
            return False

    def is_sound(self, digest: Digest, size_bytes: int) -> bool:
        """Whether the blob is there with that size, and its bytes are its digest's, which are read."""
        try:
            if not self.holds(digest, size_bytes):
                return False
            self.verify(digest)
        except BlobDamaged:
            return False
        return True

    @contextlib.contextmanager
    def opened(self, digest: Digest) -> Iterator[BinaryIO]:
        """Open a blob to read. Raises BlobDamaged when it is missing."""
        try:
            file = durable.reader(self.path(digest))
        except FileNotFoundError as error:
            raise damaged(digest, "it is missing") from error
        except OSError as error:
            raise refusal(f"read blob '{digest.short}'", error, self._blobs) from error
        with file:
            yield file

    def chunks(self, digest: Digest) -> Iterator[bytes]:
        """Yield a blob's bytes, and raise BlobDamaged at their end when they aren't those of ``digest``."""
        seen = hashlib.sha256()
        with self.opened(digest) as file:
            while chunk := _read(file, digest):
                seen.update(chunk)
                yield chunk
        if seen.hexdigest() != digest.hex:
            raise damaged(digest, f"its bytes have the digest sha256:{seen.hexdigest()}")

    def read(self, digest: Digest) -> bytes:
        """Return a whole small blob, checked. Raises BlobDamaged."""
        data = bytearray()
        for chunk in self.chunks(digest):
            data += chunk
            if len(data) > _JSON_LIMIT_BYTES:
                raise damaged(digest, "it is too large for JSON")
        return bytes(data)

    def verify(self, digest: Digest) -> None:
        """Read a blob again. Raises BlobDamaged when it is missing or its bytes aren't those of ``digest``."""
        for _ in self.chunks(digest):
            pass

    def sizes(self) -> dict[Digest, int]:
        """Return every blob that is there with its size."""
        found: dict[Digest, int] = {}
        for item in os.scandir(self._blobs):
            with contextlib.suppress(ValueError, FileNotFoundError):
                found[Digest.from_hex(item.name)] = item.stat(follow_symlinks=False).st_size
        return found

    def remove(self, digest: Digest) -> None:
        self.path(digest).unlink(missing_ok=True)

    def stale(self, *, remove: bool) -> int:
        """Return how many bytes dead writers left in ``partial/``, and remove them if told to."""
        size_bytes = 0
        for item in os.scandir(self.partial):
            with contextlib.suppress(OSError), durable.reader(Path(item.path)) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                size_bytes += os.fstat(file.fileno()).st_size
                if remove:
                    Path(item.path).unlink(missing_ok=True)
        return size_bytes


def written(chunks: Iterable[bytes], descriptor: int) -> tuple[Digest, int]:
    """Write ``chunks``; return the digest and the number of bytes that were written."""
    seen = hashlib.sha256()
    size_bytes = 0
    for chunk in chunks:
        seen.update(chunk)
        size_bytes += len(chunk)
        write_all(descriptor, chunk)
    return Digest.from_hex(seen.hexdigest()), size_bytes


def write_all(descriptor: int, chunk: bytes | memoryview) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def damaged(digest: Digest, cause: str) -> BlobDamaged:
    return BlobDamaged(
        f"cannot read blob '{digest.short}': {cause}",
        hint="remove the image that needs it (instar images remove) and bake it again",
    )


def _read(file: BinaryIO, digest: Digest) -> bytes:
    try:
        return file.read(_READ_BYTES)
    except OSError as error:
        raise damaged(digest, error.strerror or str(error)) from error
