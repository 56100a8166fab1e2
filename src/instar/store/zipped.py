"""A zip archive that nobody vouches for: how much it unfolds to is known before anything is read.

Read: what is stored or deflated, as in every wheel. Other compressions have no bound on the memory that they take.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from instar.store.members import MEMBER_LIMIT, Malformed

if TYPE_CHECKING:
    import zipfile

LIST_LIMIT_BYTES = 64 << 20  # of some 500,000 members with long names
_CHUNK_BYTES = 1 << 20
_UNPACKED_LIMIT_BYTES = 16 << 30


@contextlib.contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Give the archive at ``path``. Raises Malformed, also for what turns out to be damaged within the block."""
    import struct
    import zipfile
    import zlib

    try:
        with path.open("rb") as file, zipfile.ZipFile(_Bounded(file)) as archive:
            _require_bounds(archive)
            yield archive
    except zlib.error as error:
        raise Malformed(f"it is damaged: {error}") from error
    except EOFError as error:
        raise Malformed("it ends in the middle") from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, UnicodeDecodeError, struct.error) as error:
        raise Malformed(str(error)) from error


class _Bounded:
    """A file of which nobody reads much at once: a zip's list of members is read whole, before anything is known of it,
    and a few hundred MiB of it become many GiB of objects."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, count: int = -1) -> bytes:
        if count > LIST_LIMIT_BYTES:
            raise Malformed(f"its list of members has more than the {LIST_LIMIT_BYTES:,} bytes that are allowed")
        return self._file.read(count)


def chunks(archive: zipfile.ZipFile, name: str | zipfile.ZipInfo) -> Iterator[bytes]:
    """Yield what a member holds."""
    with _reading():
        file = archive.open(name)
    with file:
        while chunk := _read(file):
            yield chunk


def content(archive: zipfile.ZipFile, info: zipfile.ZipInfo, *, limit_bytes: int) -> bytes:
    """Return what a member holds. Raises Malformed when that is more than ``limit_bytes``."""
    if info.file_size > limit_bytes:
        raise Malformed(f"'{info.filename}' has more than the {limit_bytes:,} bytes that are allowed")
    with _reading():
        return archive.read(info)


def _read(file: IO[bytes]) -> bytes:
    with _reading():
        return file.read(_CHUNK_BYTES)


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """A place in the archive that cannot be is one of a damaged archive; nothing else fails here in this way."""
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise Malformed(f"it is damaged: {error.strerror if isinstance(error, OSError) else error}") from error


def _require_bounds(archive: zipfile.ZipFile) -> None:
    """No more is ever read of a member than its entry says, so that what the entries say is a bound."""
    import zipfile

    members = archive.infolist()
    if len(members) > MEMBER_LIMIT:
        raise Malformed(f"it holds more than {MEMBER_LIMIT:,} members")
    if sum(info.file_size for info in members) > _UNPACKED_LIMIT_BYTES:
        raise Malformed(f"it holds more than the {_UNPACKED_LIMIT_BYTES:,} bytes that are allowed")
    for info in members:
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Malformed(f"'{info.filename}' is compressed in a way that isn't read here")
