"""Fetched files, kept by the SHA-256 of their bytes.

    cache/                 mode 0700
    ├── sha256/HEX         whole files, mode 0600
    ├── partial/           what is being written
    ├── apt/KEY/           the package lists of some sources (apt.py)
    └── uv/                uv's own cache                   (python.py)

A file appears under its name by a rename, after its bytes were hashed and reached the disk: it is there whole or
not at all, and a crash leaves at most something in ``partial/``, which :meth:`Cache.collect` sweeps. Two that add
the same file at once both succeed. What is read for use is hashed again (:meth:`Cache.verify`), so that a damaged
file is found, removed, and fetched anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path

from instar import durable
from instar.errors import FetchError, HashMismatch, HostError
from instar.model.digest import Digest

_BLOCK_BYTES = 1 << 20
_KEPT_S = {"partial": 86_400, "apt": 30 * 86_400}


class Cache:
    """The cache at ``root``, which is made when it is first written to. Safe for threads and processes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files = root / "sha256"
        self._partial = root / "partial"

    def find(self, digest: Digest) -> Path | None:
        """Return the file's path, or None. Costs a stat; does not look at the bytes."""
        path = self._path(digest)
        return path if path.is_file() else None

    def verify(self, digest: Digest) -> Path:
        """Return the file's path after hashing its bytes. A damaged file is removed.

        Raises:
            FetchError: it is not in the cache.
            HashMismatch: it was damaged.
        """
        path = self._path(digest)
        try:
            with durable.reader(path) as file:
                found = Digest.from_hex(hashlib.file_digest(file, "sha256").hexdigest())
        except FileNotFoundError as error:
            raise FetchError(
                f"cannot use '{digest.short}': it is not in the cache", hint="run the command again to fetch it"
            ) from error
        except OSError as error:
            raise FetchError(
                f"cannot use '{path}': {error.strerror}", hint="remove it, and run the command again"
            ) from error
        if found != digest:
            path.unlink(missing_ok=True)
            raise HashMismatch(
                f"cannot use '{path}': it was damaged (its SHA-256 is {found.hex}) and has been removed",
                hint="run the command again to fetch it anew",
            )
        return path

    def is_whole(self, digest: Digest) -> bool:
        """Say whether the file is there with the right bytes; a damaged one is removed."""
        try:
            self.verify(digest)
        except FetchError:
            return False
        return True

    def add(
        self,
        chunks: Iterable[bytes],
        expected: Digest | None = None,
        *,
        check: Callable[[Path], None] = lambda path: None,
    ) -> Digest:
        """Keep the bytes that ``chunks`` yields, and return their digest. Whole or not at all.

        ``check`` looks at the file before it is kept, and raises what is wrong with it.

        Raises:
            HashMismatch: they are not ``expected``.
            HostError: the disk is full, or the cache cannot be written.
        """
        with self.workspace() as folder, _disk_errors(self.root):
            path = folder / "file"
            digest = _write(path, chunks)
            check(path)
            _require(digest, expected)
            self._rename(path, digest)
        return digest

    def take(self, path: Path, expected: Digest) -> Digest:
        """Move a finished file of :meth:`workspace` into the cache, after hashing it. Raises HashMismatch."""
        with _disk_errors(self.root):
            with path.open("rb") as file:
                digest = Digest.from_hex(hashlib.file_digest(file, "sha256").hexdigest())
                _require(digest, expected)
            path.chmod(0o600)
            self._rename(path, digest)
        return digest

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Path]:
        """Give a private folder on the cache's file system, removed at the end."""
        import tempfile

        with _disk_errors(self.root):
            self.folder("partial")
            folder = Path(tempfile.mkdtemp(dir=self._partial))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def folder(self, name: str) -> Path:
        """Return the folder ``name`` of the cache, made with mode 0700 if it is missing."""
        path = self.root / name
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root.chmod(0o700)
        return path

    def sizes(self) -> Mapping[Digest, int]:
        """Return what is kept, and the bytes of each."""
        if not self._files.is_dir():
            return {}
        return {Digest.from_hex(entry.name): entry.stat().st_size for entry in os.scandir(self._files)}

    def collect(self, keep: Collection[Digest]) -> int:
        """Remove every file that is not in ``keep``, and what crashes left; return the bytes freed.

        Package lists of sources that were not used for a month go too.
        """
        freed = 0
        for digest, size_bytes in self.sizes().items():
            if digest not in keep:
                self._path(digest).unlink(missing_ok=True)
                freed += size_bytes
        self._sweep()
        return freed

    def _sweep(self) -> None:
        for name, age_s in _KEPT_S.items():
            for path in (self.root / name).iterdir() if (self.root / name).is_dir() else ():
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - path.stat().st_mtime > age_s:
                        shutil.rmtree(path, ignore_errors=True)

    def _path(self, digest: Digest) -> Path:
        return self._files / digest.hex

    def _rename(self, path: Path, digest: Digest) -> None:
        folder = self.folder("sha256")
        durable.move(path, folder / digest.hex)


def _write(path: Path, chunks: Iterable[bytes]) -> Digest:
    """Write ``chunks`` to ``path``, hashing them on the way."""
    hashed = hashlib.sha256()
    with path.open("xb", buffering=_BLOCK_BYTES) as file:
        os.fchmod(file.fileno(), 0o600)
        for chunk in chunks:
            hashed.update(chunk)
            file.write(chunk)
    return Digest.from_hex(hashed.hexdigest())


@contextlib.contextmanager
def _disk_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HostError(
            f"cannot write to the cache '{root}': {error.strerror or error}",
            hint="make room there (instar gc --all), or let another directory hold it: $INSTAR_HOME",
        ) from error


def _require(digest: Digest, expected: Digest | None) -> None:
    if expected is not None and digest != expected:
        raise HashMismatch(f"cannot keep what was fetched: its SHA-256 is {digest.hex}, expected {expected.hex}")
