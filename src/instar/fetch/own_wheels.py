"""Wheels of the author's own, beside the definition: hashed where they lie, and copied into the cache by that hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from instar.definition.author_files import AuthorFile, reached_author_file
from instar.errors import FetchError, HashMismatch
from instar.fetch.cache import Cache
from instar.model.digest import Digest
from instar.model.lock import Wheel

_BLOCK_BYTES: Final = 1 << 20
_LIMIT_BYTES: Final = 2 << 30


class Unusable(Exception):
    """What is wrong with a wheel, to be told with its path."""


def sha256_of(folder: Path, path: str) -> str:
    """Return the SHA-256 of the wheel at ``path`` below ``folder``, hex. Raises Unusable."""
    if ".." in PurePosixPath(path).parts or "//" in path or path.startswith(("/", "./")):
        raise Unusable("it is to be below the definition's folder, and its path as short as it can be")
    try:
        with reached_author_file(folder, path) as reached, reached.open("rb") as file:
            _require_open_to_all(folder, reached)
            hashed = hashlib.sha256()
            for block in _blocks(file):
                hashed.update(block)
            return hashed.hexdigest()
    except OSError as error:
        raise Unusable(f"it cannot be read: {error.strerror or error}") from error


def bring_own(wheels: Iterable[Wheel], folder: Path, cache: Cache) -> None:
    """Copy those that are the author's into the cache, where they are not. Raises FetchError, HashMismatch."""
    bring_own_files([(one.path, one.sha256.hex) for one in wheels if one.path is not None], folder, cache)


def bring_own_files(files: Sequence[tuple[str, str]], folder: Path, cache: Cache) -> None:
    """Copy ``files``, each a path and its SHA-256 in hex. Raises FetchError, HashMismatch."""
    for path, known in files:
        digest = Digest.from_hex(known)
        if cache.is_whole(digest):
            continue
        try:
            with reached_author_file(folder, path) as reached, reached.open("rb") as file:
                cache.add(_blocks(file), digest)
        except (OSError, Unusable) as error:
            cause = (error.strerror if isinstance(error, OSError) else None) or error
            raise FetchError(f"cannot read the wheel '{path}' beside the definition: {cause}") from error
        except HashMismatch as error:
            raise HashMismatch(
                f"cannot use the wheel '{path}': it is another file than the lock says",
                hint="if that is meant: instar lock",
            ) from error


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    size_bytes = 0
    while block := file.read(_BLOCK_BYTES):
        size_bytes += len(block)
        if size_bytes > _LIMIT_BYTES:
            raise Unusable(f"it is larger than {_LIMIT_BYTES:,} bytes")
        yield block


def _require_open_to_all(folder: Path, reached: Path) -> None:
    if not AuthorFile(data=b"", folder=folder, status=reached.stat()).may_be_quoted:
        raise Unusable("only root may read it, and what is in it would be in the image, for everybody")
