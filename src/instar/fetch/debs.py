"""Debian packages, fetched by hash from wherever this machine gets the suite from.

apt's own downloader does the transfer, so that the machine's proxies, credentials and certificates hold; what it
brings is hashed again on the way into the cache.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from instar import process
from instar.errors import CommandFailed, FetchError, HashMismatch, SourceUnreachable
from instar.fetch.apt import transfer_options
from instar.fetch.cache import Cache
from instar.fetch.network import network_environment
from instar.fetch.sources import VARIABLE, Sources
from instar.model.lock import Package

_DOWNLOADER = "/usr/lib/apt/apt-helper"
_RECEIVED = re.compile(r"Hashes of received file:\s{1,20}- SHA256:([0-9a-f]{64})")
_GONE = re.compile(r"\b(404|410)\b|File not found|No such file")
_SLOWEST_BYTES_PER_S = 32 * 1024
_LEAST_TIMEOUT_S = 300


def fetch_packages(packages: Sequence[Package], sources: Sources, cache: Cache) -> None:
    """Fetch ``packages`` into the cache, from the first of the machine's archives of their suite that has them.

    Raises:
        SourceUnreachable: an archive does not answer, or the machine has none of a suite.
        FetchError: a package is no longer in its archive.
        HashMismatch: an archive has other bytes than the lock says.
    """
    left, causes, turn = list(packages), dict[Package, str](), 0
    while left:
        urls = {package: _url(package, sources, turn) for package in left}
        reachable = {package: url for package, url in urls.items() if url}
        if not reachable:
            break
        causes.update(_download(reachable, cache))
        left = [package for package in left if cache.find(package.sha256) is None]
        turn += 1
    if left:
        raise _error(left, causes, sources)


def _url(package: Package, sources: Sources, turn: int) -> str | None:
    archives = sources.of_suite(package.suite)
    if turn >= len(archives):
        return None
    url = archives[turn].url(quote(package.path, safe="/~"))
    return re.sub(r"\Afile:/*", "copy:/", url)  # apt would leave a link to the file of another


def _download(urls: dict[Package, str], cache: Cache) -> dict[Package, str]:
    """Fetch what answers; return why for each that did not come."""
    with cache.workspace() as folder:
        argv, timeout_s = _command(urls, folder)
        try:
            told = process.run(argv, timeout_s=timeout_s, env=network_environment(), check=False).stderr.decode()
        except CommandFailed:
            told = f"no end after {timeout_s:.0f} s"
        for package in urls:
            file = folder / package.sha256.hex
            if file.is_file():
                cache.take(file, package.sha256)
    causes = _causes(told)
    last = told.strip().splitlines()[-1:] or ["the downloader said nothing"]
    return {package: causes.get(url, last[0]) for package, url in urls.items() if cache.find(package.sha256) is None}


def _command(urls: dict[Package, str], folder: Path) -> tuple[list[str], float]:
    words = [
        word
        for package, url in urls.items()
        for word in (url, str(folder / package.sha256.hex), f"SHA256:{package.sha256.hex}")
    ]
    size_bytes = sum(package.size_bytes for package in urls)
    argv = [_DOWNLOADER, *transfer_options(), "download-file", *words]
    return argv, max(_LEAST_TIMEOUT_S, size_bytes / _SLOWEST_BYTES_PER_S)


def _causes(told: str) -> dict[str, str]:
    """Return why each address was not had, from what the downloader says."""
    causes: dict[str, str] = {}
    _, *parts = re.split(r"^E: Failed to fetch ", told, flags=re.MULTILINE)
    for part in parts:
        line, _, rest = part.partition("\n")
        url, _, cause = line.strip().partition(" ")
        received = _RECEIVED.search(rest) if "mismatch" in cause else None
        causes[url] = f"mismatch: its SHA-256 is {received[1]}" if received else cause.strip()
    return causes


def _error(left: Sequence[Package], causes: dict[Package, str], sources: Sources) -> FetchError:
    package = left[0]
    archive = f"{package.label} {package.suite}".strip()
    others = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
    what = f"cannot fetch '{package.name}' {package.version}{others}"
    cause = causes.get(package)
    if cause is None:
        return SourceUnreachable(
            f"{what}: none of this machine's apt sources has '{archive}'",
            hint=f"add it to {', '.join(map(str, sources.files))}, or name a file of sources in ${VARIABLE}",
        )
    if _GONE.search(cause):
        names = " ".join(sorted(one.name for one in left if _GONE.search(causes.get(one, ""))))
        return FetchError(f"{what}: it is no longer in the archive '{archive}'", hint=f"instar lock --update {names}")
    if cause.startswith("mismatch"):
        return HashMismatch(
            f"{what}: what '{archive}' sent is not what the lock says ({cause.partition(': ')[2]},"
            f" locked is {package.sha256.hex})",
            hint="ask whoever keeps the mirror, or name another in apt's sources; nothing of it was kept",
        )
    return SourceUnreachable(
        f"{what}: the archive '{archive}' does not answer: {cause}",
        hint=f"check the network, its proxy, and {', '.join(map(str, sources.files))}",
    )
