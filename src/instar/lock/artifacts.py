"""The part of a lock that other ecosystems have: what their own lock files name, each with its SHA-256.

Nothing is resolved here: the author's lock file says what is meant, by a hash of its own, so that an entry never moves
but with that file, and one that is there stays whatever is updated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from instar.fetch.cache import Cache
from instar.model.lock import Artifact, Lock
from instar.model.progress import Progress, Report

if TYPE_CHECKING:
    from instar.definition.parts import ImagePart


def lock_artifacts(
    part: ImagePart, known: Sequence[Artifact], architecture: str, cache: Cache, report: Report
) -> tuple[Artifact, ...]:
    """Return an entry for each file that the author's lock files name. Those that are not ``known`` are fetched.

    Raises DefinitionError for a lock file that cannot be used, FetchError, HashMismatch, SourceUnreachable.
    """
    if not _uses_any(part):
        return ()
    from instar.ecosystems.found import find_all, wanted_by

    found = tuple(find_all(part, architecture))
    for text in (note for one in found for note in one.manifest.notes):
        report(Progress(stage="lock", text=text, kind="warning"))
    wanted = wanted_by(found)
    there = {one.order: one for one in known if one.order in wanted}
    there |= {one.key: one.locked(sha256) for one in wanted.values() if (sha256 := one.known_sha256)}
    missing = [one for key, one in wanted.items() if key not in there]
    if missing:
        from instar.ecosystems.fetching import bring_all

        names = ", ".join(sorted({one.ecosystem for one in missing}))
        report(Progress(stage="lock", text=part.named(f"{len(missing)} files of {names}"), kind="running"))
        brought = bring_all(missing, cache, report)
        there |= {one.key: one.locked(brought[one.key]) for one in missing}
    return tuple(there[key] for key in sorted(there))


def moved_artifacts(lock: Lock, part: ImagePart, name: str) -> Iterator[str]:
    """Yield what the author's lock files name and the lock, called ``name``, has not, and the other way round."""
    if not _uses_any(part) and not lock.artifacts:
        return
    from instar.ecosystems.found import find_all, wanted_by

    wanted = wanted_by(tuple(find_all(part, lock.architecture)))
    locked = {one.order: one for one in lock.artifacts}
    versions = {(one.ecosystem, one.name, one.version, one.kind) for one in lock.artifacts}
    for key, one in wanted.items():
        if key not in locked:
            other = (one.ecosystem, one.name, one.version, one.kind) in versions
            yield f"{one.place}: {one.ecosystem}: '{one.shown}' " + (
                f"is another file than in {name}" if other else f"is not in {name}"
            )
    told = {key[:4] for key in wanted if key not in locked}
    for order, artifact in locked.items():
        if order not in wanted and order[:4] not in told:
            yield f"{name}: {artifact.ecosystem}: '{artifact.shown}' is there, and nothing asks for it"


def _uses_any(part: ImagePart) -> bool:
    """Tell whether there is anything to read: few parts have anything, and all are asked for it."""
    return bool(part.made.npm or part.made.go or part.made.cargo)
