"""Everything that a lock and a definition name from outside, brought into the cache.

What is there is not asked for again: with all of it there, this is a stat per file and no network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from instar.fetch.cache import Cache
from instar.frozen import dataclass
from instar.model.architectures import platform_of
from instar.model.definition import Definition
from instar.model.digest import Digest
from instar.model.image_spec import BuildStage, Fetch
from instar.model.lock import Artifact, Lock, Package, Wheel
from instar.model.progress import Progress, Report
from instar.model.sizes import size_text
from instar.threads import carried

if TYPE_CHECKING:
    from instar.fetch.sources import Sources

_WORKERS = 3
_OF_ECOSYSTEMS = 5  # more: many small files, each of which is waited for
_BATCH_FILES = 20
_BATCH_BYTES = 16 << 20
_WHEEL_BATCHES = 2


@dataclass(frozen=True, slots=True)
class Batch:
    """Files that one downloader fetches together."""

    digests: tuple[Digest, ...]
    fetch: Callable[[], None]


def inputs(lock: Lock, definition: Definition) -> tuple[Digest, ...]:
    """Return the digest of every file that a bake of ``definition`` with ``lock``, for any of its platforms, may need
    from the cache."""
    return tuple(_inputs(part for one in lock.whole for part in _parts(one, definition)))


def _inputs(parts: Iterable[tuple[BuildStage, Lock]]) -> Iterator[Digest]:
    yield from (
        digest
        for made, locked in parts
        for digest in (
            *(package.sha256 for package in locked.packages),
            *(wheel.sha256 for wheel in locked.wheels),
            *(artifact.sha256 for artifact in locked.artifacts),
            *(Digest.from_hex(file.sha256) for file in made.fetch),
        )
    )


def _parts(lock: Lock, definition: Definition) -> Iterable[tuple[BuildStage, Lock]]:
    """Return the image and the stages that it needs, each with what is locked for it, and without what is fetched for
    another platform."""
    platform = platform_of(lock.architecture)
    stages = ((definition.build[name], lock.of(name)) for name in definition.needed_stages)
    for made, locked in (*stages, (definition.image, lock)):
        fetched = tuple(one for one in made.fetch if one.platform in (None, platform))
        yield replace(made, fetch=fetched), locked


def fetch_all(
    lock: Lock,
    definition: Definition,
    cache: Cache,
    report: Report,
    *,
    verify: bool = False,
    of_ecosystems: Callable[[Sequence[Artifact], Cache], Iterable[Batch]] = lambda missing, cache: (),
) -> None:
    """Bring whatever is not in the cache into it. Idempotent; what came stays, also when something else fails.

    ``verify`` hashes what is there first, and fetches damaged files anew. ``of_ecosystems`` gives what fetches the
    files of other ecosystems.

    Raises:
        SourceUnreachable: an archive, the index or a URL does not answer.
        FetchError: something is no longer where it was.
        HashMismatch: something is not what the lock or the definition says.
    """
    fetch_parts(tuple(_parts(lock, definition)), cache, report, verify=verify, of_ecosystems=of_ecosystems)


def fetch_parts(
    parts: Sequence[tuple[BuildStage, Lock]],
    cache: Cache,
    report: Report,
    *,
    verify: bool = False,
    of_ecosystems: Callable[[Sequence[Artifact], Cache], Iterable[Batch]] = lambda missing, cache: (),
) -> None:
    """Do as :func:`fetch_all` for the image or stages in ``parts``, each with what is locked for it."""
    there = cache.is_whole if verify else (lambda digest: cache.find(digest) is not None)
    missing = {digest for digest in dict.fromkeys(_inputs(parts)) if not there(digest)}
    if not missing:
        return
    batches, workers = list[Batch](), _WORKERS
    for made, locked in parts:
        batches += _package_batches([one for one in locked.packages if one.sha256 in missing], locked, made, cache)
        batches += _wheel_batches([one for one in locked.wheels if one.sha256 in missing], locked, cache)
        batches += _file_batches([one for one in made.fetch if Digest.from_hex(one.sha256) in missing], cache)
        if artifacts := [one for one in locked.artifacts if one.sha256 in missing]:
            batches += of_ecosystems(artifacts, cache)
            workers = _WORKERS + _OF_ECOSYSTEMS
        missing -= {digest for batch in batches for digest in batch.digests}  # each once, whoever needs it
    _work(batches, cache, report, workers=workers)


def _package_batches(packages: Sequence[Package], lock: Lock, made: BuildStage, cache: Cache) -> Iterable[Batch]:
    if not packages:
        return
    from instar.fetch.debs import fetch_packages

    for archive in sorted({package.archive for package in packages}, key=str):
        sources = _sources(archive, lock, made)
        for batch in _by_size([package for package in packages if package.archive == archive]):
            yield Batch(tuple(one.sha256 for one in batch), partial(fetch_packages, batch, sources, cache))


def _sources(archive: str | None, lock: Lock, made: BuildStage) -> Sources:
    from instar.fetch.sources import read_sources

    if archive is None:
        return read_sources(lock.suite, more=lock.requested.suites)
    from instar.fetch.archives import archive_sources

    return archive_sources(archive, made.archives[archive], b"")


def _wheel_batches(wheels: Sequence[Wheel], lock: Lock, cache: Cache) -> Iterable[Batch]:
    if not wheels:
        return
    from instar.fetch.wheels import fetch_wheels

    for index in sorted({wheel.index for wheel in wheels}, key=str):
        one_index = [wheel for wheel in wheels if wheel.index == index]
        for start in range(min(_WHEEL_BATCHES, len(one_index))):
            batch = one_index[start::_WHEEL_BATCHES]
            fetch = partial(fetch_wheels, batch, lock.python or "3", cache, index)
            yield Batch(tuple(one.sha256 for one in batch), fetch)


def _file_batches(files: Sequence[Fetch], cache: Cache) -> Iterable[Batch]:
    if not files:
        return
    from instar.fetch.files import fetch_file
    from instar.fetch.git import fetch_revision

    for file in {file.sha256: file for file in files}.values():
        fetch = fetch_file if file.revision is None else fetch_revision
        yield Batch((Digest.from_hex(file.sha256),), partial(fetch, file, cache))


def _by_size(packages: Sequence[Package]) -> Iterable[list[Package]]:
    """Split into batches that each take about as long, the large packages first."""
    batch, size_bytes = list[Package](), 0
    for package in sorted(packages, key=lambda package: -package.size_bytes):
        batch.append(package)
        size_bytes += package.size_bytes
        if len(batch) == _BATCH_FILES or size_bytes >= _BATCH_BYTES:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch


def _work(batches: Sequence[Batch], cache: Cache, report: Report, *, workers: int) -> None:
    """Run the batches, a few at a time. After the first failure, or ^C, no further one is begun."""
    from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

    files = sum(len(batch.digests) for batch in batches)
    report(Progress(stage="fetch", text=f"{files} {_files(files)}", kind="running"))
    pool = ThreadPoolExecutor(workers, thread_name_prefix="fetch")
    try:
        running = {pool.submit(carried(batch.fetch)): batch for batch in batches}
        done, size_bytes = 0, 0
        while running:
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                batch = running.pop(future)
                future.result()
                done += len(batch.digests)
                size_bytes += sum(path.stat().st_size for one in batch.digests if (path := cache.find(one)))
            text = f"{done} of {files} {_files(files)} · {size_text(size_bytes)}"
            report(Progress(stage="fetch", text=text, kind="running" if running else "done"))
    finally:
        pool.shutdown(cancel_futures=True)


def _files(count: int) -> str:
    return "file" if count == 1 else "files"
