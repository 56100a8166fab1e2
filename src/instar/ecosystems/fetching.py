"""The files of all ecosystems, fetched into the cache, several at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from instar.ecosystems.known import INSTALLING, OFFERING, known_ecosystem
from instar.ecosystems.protocol import FileSource, WantedFile
from instar.errors import FetchError
from instar.fetch.cache import Cache
from instar.fetch.fetch import Batch
from instar.model.digest import Digest
from instar.model.lock import Artifact
from instar.model.progress import Progress, Report
from instar.threads import at_once

_AT_ONCE: Final = 8
_REPORTED_EVERY: Final = 25


def batches(missing: Sequence[Artifact], cache: Cache) -> Iterator[Batch]:
    """Yield what fetches the ``missing`` files of a lock."""
    sources = _sources({one.ecosystem for one in missing})
    for start in range(min(_AT_ONCE, len(missing))):
        batch = missing[start::_AT_ONCE]
        yield Batch(tuple(one.sha256 for one in batch), partial(_fetch, batch, sources, cache))


def bring_all(wanted: Sequence[WantedFile], cache: Cache, report: Report) -> Mapping[tuple[str, ...], Digest]:
    """Fetch what was never fetched, and return the SHA-256 of each by its key. After the first failure none is begun.

    Raises SourceUnreachable, FetchError, HashMismatch, ComponentMissing.
    """
    sources = _sources({one.ecosystem for one in wanted})
    failed, count, guard = threading.Event(), 0, threading.Lock()

    def bring(one: WantedFile) -> Digest | None:
        nonlocal count
        if failed.is_set():
            return None
        try:
            found = sources[one.ecosystem].bring(one, cache, None)
        except BaseException:
            failed.set()
            raise
        with guard:
            count += 1
            if count % _REPORTED_EVERY == 0:
                report(Progress(stage="lock", text=f"{count} of {len(wanted)} files", kind="running"))
        return found

    found = at_once(bring, wanted, at_most=_AT_ONCE)
    return {one.key: digest for one, digest in zip(wanted, found, strict=True) if digest is not None}


def _fetch(batch: Sequence[Artifact], sources: Mapping[str, FileSource], cache: Cache) -> None:
    for one in batch:
        wanted = WantedFile(
            ecosystem=one.ecosystem,
            name=one.name,
            version=one.version,
            hash=one.hash,
            kind=one.kind,
            place="the lock",
            index=one.index,
        )
        sources[one.ecosystem].bring(wanted, cache, one.sha256)


def _sources(names: set[str]) -> Mapping[str, FileSource]:
    unknown = sorted(names - {*INSTALLING, *OFFERING})
    if unknown:
        raise FetchError(f"cannot fetch what the lock has of '{unknown[0]}': this Instar does not know it")
    return {name: known_ecosystem(name).source() for name in sorted(names)}
