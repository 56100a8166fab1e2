"""A revision of a git repository, as an archive of its tree in the cache.

The machine's own git fetches it, with the caller's configuration: so a password is whichever is kept for that host (and
without TLS none: a definition says the address), and git checks every object by its hash. What a revision holds becomes
a tar of this module's own form, whose SHA-256 the definition says: the same on every machine and of every git. Nothing
in the repository has a say in it: no attributes, no hooks, no submodules; files of git-lfs are their pointers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from instar import process
from instar.definition.input_forms import GIT
from instar.definition.machine_forms import is_loopback
from instar.errors import CommandFailed, FetchError, HashMismatch, SourceUnreachable
from instar.fetch.cache import Cache
from instar.fetch.files import SIZE_LIMIT_BYTES
from instar.fetch.network import network_environment
from instar.frozen import dataclass
from instar.model.digest import Digest
from instar.model.image_spec import Fetch
from instar.store.header import BLOCK, REGULAR, SYMLINK, Entry, encode, padding

_TIMEOUT_S: Final = 3600
_MOST_FILES: Final = 1_000_000
_BLOCK_BYTES: Final = 1 << 20
_LINK_LIMIT_BYTES: Final = 4095  # Linux's PATH_MAX
_LISTING_LIMIT_BYTES: Final = 256 << 20
_PACK_MARGIN_BYTES: Final = 1 << 20  # what a pack has besides the files, and what cannot be compressed grows by
_PLAIN = ("core.hooksPath=/dev/null", "gc.auto=0", "fetch.fsckObjects=true", "protocol.version=2")
_ONE_FILE = ("fetch.unpackLimit=1", "transfer.unpackLimit=1")  # so that what comes is bounded as a file is
_SLOW = ("http.lowSpeedLimit=1000", "http.lowSpeedTime=60")
_MODES: Final = {b"100644": 0o644, b"100664": 0o644, b"100755": 0o755}
_LINK, _SUBMODULE = b"120000", b"160000"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Blob:
    """A file of the tree, or the target of a link."""

    path: bytes
    mode: bytes
    hash: bytes
    size_bytes: int


def fetch_revision(file: Fetch, cache: Cache, *, limit_bytes: int = SIZE_LIMIT_BYTES) -> None:
    """Fetch the tree of ``file.revision`` into the cache, whole or not at all.

    Raises:
        ComponentMissing: there is no git.
        SourceUnreachable: the repository does not answer, lets nobody in, or has no such revision.
        FetchError: it holds what no image can have, or more than ``limit_bytes``.
        HashMismatch: the tree is not the one that the definition says.
    """
    assert file.revision is not None
    shown = f"revision {file.revision[:12]} of '{file.url.removeprefix(GIT)}'"
    with cache.workspace() as folder:
        repository = _fetched(file.url.removeprefix(GIT), file.revision, folder, shown, limit_bytes)
        blobs = _blobs(repository, file.revision, shown)
        if sum(blob.size_bytes for blob in blobs) > limit_bytes:
            raise _too_large(shown, limit_bytes)
        archive = folder / "tree.tar"
        with archive.open("wb") as out:
            out.writelines(_tar(blobs, _contents(repository, blobs, folder), shown))
        try:
            cache.take(archive, Digest.from_hex(file.sha256))
        except HashMismatch as error:
            raise HashMismatch(
                f"cannot fetch {shown}: {error.message.partition(': ')[2]}",
                hint="if this is the revision that you mean, write that sha256 into the definition",
            ) from error


def _too_large(shown: str, limit_bytes: int) -> FetchError:
    return FetchError(f"cannot fetch {shown}: it is larger than {limit_bytes:,} bytes")


def _fetched(url: str, revision: str, folder: Path, shown: str, limit_bytes: int) -> Path:
    """Return a repository that has the revision, and as little else as its server lets us."""
    repository = folder / "repository"
    form = "sha256" if len(revision) == 64 else "sha1"
    process.run(["git", "init", "--quiet", "--bare", "--template=", f"--object-format={form}", repository])
    settings = [word for one in (*_PLAIN, *_ONE_FILE, *_SLOW) for word in ("-c", one)]
    fetch = ("fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--", url, revision)
    protocol, most_bytes = url.partition(":")[0], limit_bytes + limit_bytes // 8 + _PACK_MARGIN_BYTES
    as_nobody = protocol != "https" and not is_loopback(urlsplit(url).hostname or "")
    try:
        words = _bounded(most_bytes, f"--git-dir={repository}", *settings, *fetch)
        process.run(words, env={"GIT_ALLOW_PROTOCOL": protocol, **_caller(as_nobody=as_nobody)}, timeout_s=_TIMEOUT_S)
    except CommandFailed as error:
        if any(path.stat().st_size >= most_bytes for path in repository.glob("objects/pack/*")):
            raise _too_large(shown, limit_bytes) from error
        check = "check the address and the revision: git ls-remote shows what is there, as whoever runs Instar"
        alone = "; no password is sent there, as it is without TLS: git+https://" if as_nobody else ""
        raise SourceUnreachable(f"cannot fetch {shown}: {_said(error)}", hint=f"{check}{alone}") from error
    return repository


def _blobs(repository: Path, revision: str, shown: str) -> list[_Blob]:
    """Return what is in the tree, in the order of the paths. Raises FetchError."""
    listing = repository.with_name("listing")
    try:
        words = ("ls-tree", "-r", "-l", "-z", "--full-tree", f"{revision}^{{tree}}")
        with listing.open("wb") as out:
            process.run(
                _bounded(_LISTING_LIMIT_BYTES, f"--git-dir={repository}", *words), stdout=out, timeout_s=_TIMEOUT_S
            )
    except CommandFailed as error:
        if listing.stat().st_size >= _LISTING_LIMIT_BYTES:
            raise _too_many(shown) from error
        raise FetchError(f"cannot fetch {shown}: {_said(error)}") from error
    listed = listing.read_bytes()
    if listed.count(b"\0") > _MOST_FILES:
        raise _too_many(shown)
    found = []
    for line in listed.split(b"\0")[:-1]:
        about, _, path = line.partition(b"\t")
        mode, _, hash_, size = about.split()
        text = path.decode("utf-8", "replace")
        if mode == _SUBMODULE:
            hint = "fetch it by an entry of its own"
            raise FetchError(f"cannot fetch {shown}: '{text}' is a submodule, which is not taken along", hint=hint)
        if mode not in _MODES and mode != _LINK:
            raise FetchError(f"cannot fetch {shown}: '{text}' is of no kind that is known ({mode.decode()})")
        found.append(_Blob(path=path, mode=mode, hash=hash_, size_bytes=int(size)))
    return sorted(found, key=lambda blob: blob.path)


def _too_many(shown: str) -> FetchError:
    return FetchError(f"cannot fetch {shown}: it has more than {_MOST_FILES:,} files")


def _contents(repository: Path, blobs: list[_Blob], folder: Path) -> Path:
    """Return a file with what is in all of ``blobs``, one after the other, each after a line of git's."""
    asked = b"".join(blob.hash + b"\n" for blob in blobs)
    contents = folder / "contents"
    with contents.open("wb") as out:
        process.run(
            ["git", f"--git-dir={repository}", "cat-file", "--batch"], input=asked, stdout=out, timeout_s=_TIMEOUT_S
        )
    return contents


def _tar(blobs: list[_Blob], contents: Path, shown: str) -> Iterator[bytes]:
    """Yield the archive. Its form is for ever: definitions name its SHA-256."""
    with contents.open("rb") as file:
        for blob in blobs:
            said = file.readline().split()
            if said != [blob.hash, b"blob", b"%d" % blob.size_bytes]:
                raise FetchError(f"cannot fetch {shown}: git does not give '{blob.path.decode('utf-8', 'replace')}'")
            if blob.mode == _LINK:
                if blob.size_bytes > _LINK_LIMIT_BYTES:
                    raise FetchError(f"cannot fetch {shown}: there is a link to nowhere that can be")
                yield encode(Entry(name=blob.path, kind=SYMLINK, mode=0o777, link=file.read(blob.size_bytes)))
            else:
                entry = Entry(name=blob.path, kind=REGULAR, mode=_MODES[blob.mode], size=blob.size_bytes)
                yield encode(entry)
                left = blob.size_bytes
                while left:
                    piece = file.read(min(left, _BLOCK_BYTES))
                    left -= len(piece)
                    yield piece
                yield padding(blob.size_bytes)
            file.read(1)
    yield bytes(2 * BLOCK)


def _caller(*, as_nobody: bool) -> Mapping[str, str]:
    """Return what git knows of who calls: whose configuration is read, and how the network is reached."""
    home = {"HOME": home} if (home := os.environ.get("HOME")) and not as_nobody else {}
    system = {"GIT_CONFIG_NOSYSTEM": "1"} if as_nobody else {}
    return {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", **network_environment(), **home, **system}


def _bounded(most_bytes: int, *words: str) -> list[str]:
    """Return git's command, ended where a file of its gets larger: a few objects may unfold to whatever one likes."""
    return ["prlimit", f"--fsize={most_bytes}:{most_bytes}", "git", *words]


def _said(error: CommandFailed) -> str:
    """Return git's own words, of which the last line says why."""
    lines = [line.removeprefix("fatal: ") for line in (error.output or "").splitlines() if line.strip()]
    return lines[-1] if lines else error.message
