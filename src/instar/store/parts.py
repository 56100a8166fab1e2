"""What is there so far of a blob that comes from elsewhere, kept from one attempt to the next.

    partial/HEX        named by the digest that the whole has to have; flocked by who writes it

A killed writer leaves its part, and the next one of the same blob goes on where it ended, after hashing what is there.
Only bytes that have the digest get a blob's name. What nobody goes on with is garbage, as other files of ``partial/``.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from instar import durable
from instar.model.digest import Digest
from instar.store.blobs import Blobs
from instar.store.faults import refusal, reported

_READ_BYTES = 1 << 20
_OPEN = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Part:
    """A blob of ``size_bytes`` that is being received; ``have_bytes`` are there. Made by :func:`open_part`."""

    def __init__(self, blobs: Blobs, digest: Digest, size_bytes: int, path: Path, descriptor: int) -> None:
        self._blobs = blobs
        self._digest = digest
        self._path = path
        self._descriptor = descriptor
        self._size_bytes = size_bytes
        self._seen = hashlib.sha256()
        self.have_bytes = 0
        self._read_again()

    def write(self, chunk: bytes) -> None:
        """Add what came. Raises StoreError, and what was there is gone: a full disk gets its room back."""
        rest = memoryview(chunk)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            self.drop()
            raise refusal("store a blob", error, self._blobs.partial) from error
        self._seen.update(chunk)
        self.have_bytes += len(chunk)

    def restart(self) -> None:
        """Begin again from nothing."""
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._seen = hashlib.sha256()
        self.have_bytes = 0

    def drop(self) -> None:
        """Take away what is there: it can be no beginning of the blob."""
        self._path.unlink(missing_ok=True)

    def found(self) -> Digest:
        """Return the digest of what is there."""
        return Digest.from_hex(self._seen.hexdigest())

    def store(self) -> bool:
        """Give it its name as a blob, if it is that; returning true means stored, after a crash too."""
        if self.have_bytes != self._size_bytes or self.found() != self._digest:
            return False
        with reported("store a blob", self._blobs.partial):
            os.fchmod(self._descriptor, 0o400)
            durable.move(self._path, self._blobs.path(self._digest))
        return True

    def _read_again(self) -> None:
        while chunk := os.read(self._descriptor, _READ_BYTES):
            self._seen.update(chunk)
            self.have_bytes += len(chunk)
        if self.have_bytes > self._size_bytes:
            self.restart()


def received_bytes(blobs: Blobs, digest: Digest) -> int:
    """Return how much of a blob is there, whatever of it turns out to be one's own."""
    with contextlib.suppress(FileNotFoundError):
        return (blobs.partial / digest.hex).lstat().st_size
    return 0


@contextlib.contextmanager
def open_part(blobs: Blobs, digest: Digest, size_bytes: int) -> Iterator[Part | None]:
    """Give what is there of a blob, to add to it; None while somebody else does. Raises StoreError."""
    with contextlib.ExitStack() as opened:
        with reported("store a blob", blobs.partial):
            path = blobs.partial / digest.hex
            descriptor = os.open(path, _OPEN, 0o600)
            opened.callback(os.close, descriptor)
            part = _locked(blobs, digest, size_bytes, path, descriptor)
        yield part


def _locked(blobs: Blobs, digest: Digest, size_bytes: int, path: Path, descriptor: int) -> Part | None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    return Part(blobs, digest, size_bytes, path, descriptor) if _is_at(descriptor, path) else None


def _is_at(descriptor: int, path: Path) -> bool:
    """Tell whether an open file still has its name: it may have been stored, or taken for stale, meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    return False
