"""The part of a lock that other ecosystems have: what their own lock files name, each with its SHA-256.

Nothing is resolved here: the author's lock file says what is meant, by a hash of its own, so that an entry never moves
but with that file, and one that is there stays whatever is updated. An ecosystem without such a file has its own tool
find out what is meant (:class:`~instar.ecosystems.protocol.Resolving`); that moves with the files that say what it is
to find, and with an update of everything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from instar.errors import ResolveError
from instar.fetch.cache import Cache
from instar.model.codec import canonical
from instar.model.digest import Digest
from instar.model.lock import Artifact, Lock
from instar.model.progress import Progress, Report

if TYPE_CHECKING:
    from instar.definition.parts import ImagePart
    from instar.ecosystems.found import EcosystemUse
    from instar.ecosystems.protocol import OpenSandbox


def lock_artifacts(
    part: ImagePart, known: Sequence[Artifact], architecture: str, cache: Cache, report: Report
) -> tuple[Artifact, ...]:
    """Return an entry for each file that the author's lock files name. Those that are not ``known`` are fetched.

    Raises DefinitionError for a lock file that cannot be used, FetchError, HashMismatch, SourceUnreachable.
    """
    if not part.made.ecosystems:
        return ()
    from instar.ecosystems.found import find_all, wanted_by

    found = tuple(find_all(part, architecture))
    for text in (note for one in found for note in one.manifest.notes):
        report(Progress(stage="lock", text=text, kind="warning"))
    wanted = wanted_by(found)
    there = {one.order: replace(one, index=wanted[one.order].index) for one in known if one.order in wanted}
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
    if not part.made.ecosystems and not lock.artifacts and not lock.resolved:
        return
    from instar.ecosystems.found import find_all, wanted_by

    found = tuple(find_all(part, lock.architecture))
    asked = _asked(found)
    for ecosystem in sorted(asked.keys() | lock.resolved.keys()):
        if asked.get(ecosystem) != lock.resolved.get(ecosystem):
            yield f"{part.place(ecosystem)}: {ecosystem}: what is to be built is not what it was when {name} was made"
    wanted = wanted_by(found)
    locked = {one.order: one for one in lock.artifacts if one.ecosystem not in asked}
    versions = {(one.ecosystem, one.name, one.version, one.kind) for one in lock.artifacts}
    for key, one in wanted.items():
        if key not in locked:
            other = (one.ecosystem, one.name, one.version, one.kind) in versions
            yield f"{one.place}: {one.ecosystem}: '{one.shown}' " + (
                f"is another file than in {name}" if other else f"is not in {name}"
            )
        elif locked[key].index != one.index:
            yield f"{one.place}: {one.ecosystem}: '{one.shown}' comes from another index than in {name}"
    told = {key[:4] for key in wanted if key not in locked}
    for order, artifact in locked.items():
        if order not in wanted and order[:4] not in told:
            yield f"{name}: {artifact.ecosystem}: '{artifact.shown}' is there, and nothing asks for it"


def with_resolved(
    part: ImagePart,
    lock: Lock,
    kept: Lock | None,
    stages: Mapping[str, Lock],
    cache: Cache,
    open_sandbox: OpenSandbox | None,
    report: Report,
) -> Lock:
    """Return a part's ``lock`` with what ecosystems find that have no lock file of their own; what ``kept`` has stays
    where the same is asked for. ``stages``: what is locked for those above.

    Raises what :meth:`~instar.ecosystems.protocol.Resolving.resolve` does.
    """
    if not part.made.ecosystems:
        return lock
    from instar.ecosystems.found import find_all
    from instar.ecosystems.known import resolving

    found = tuple(find_all(part, lock.architecture))
    asked, artifacts = _asked(found), {one.order: one for one in lock.artifacts}
    for ecosystem, digest in asked.items():
        if kept is not None and kept.resolved.get(ecosystem) == digest:
            artifacts |= {one.order: one for one in kept.artifacts if one.ecosystem == ecosystem}
            continue
        if open_sandbox is None:
            raise ResolveError(f"{part.place(ecosystem)}: cannot run {ecosystem}: there is nothing to run it on")
        report(Progress(stage="lock", text=part.named(f"{ecosystem} finds what it needs"), kind="running"))
        for one in found:
            if one.ecosystem.name == ecosystem:
                own = {} if part.stage is None else {part.stage: lock}
                whole = replace(lock, build={**stages, **own})
                brought = resolving(ecosystem).resolve(one.use, part, whole, cache, open_sandbox, report)
                artifacts |= {artifact.order: artifact for artifact in brought}
    return replace(lock, resolved=asked, artifacts=tuple(artifacts[key] for key in sorted(artifacts)))


def _asked(found: Sequence[EcosystemUse[Any]]) -> dict[str, Digest]:
    """Return what all uses of an ecosystem ask for that names no files, by the ecosystem."""
    asked: dict[str, list[Digest]] = {}
    for one in found:
        if one.manifest.asked is not None:
            asked.setdefault(one.ecosystem.name, []).append(one.manifest.asked)
    return {name: Digest.from_hex(hashlib.sha256(canonical(each)).hexdigest()) for name, each in asked.items()}
