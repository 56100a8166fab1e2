"""What a definition has of all ecosystems: each use of one, with what its author's files say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from instar.ecosystems.known import ECOSYSTEMS
from instar.ecosystems.protocol import Ecosystem, Manifest, Wanted
from instar.errors import BakeError
from instar.frozen import dataclass
from instar.model.definition import ImageSpec
from instar.model.lock import Artifact, Lock

if TYPE_CHECKING:
    from instar.definition import Loaded


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """One use of an ecosystem; ``place`` is where the definition asks for it."""

    ecosystem: Ecosystem
    use: Any
    place: str
    manifest: Manifest


def find(loaded: Loaded, image: ImageSpec, path: Sequence[str | int], architecture: str) -> Iterator[Found]:
    """Yield what ``image`` uses, which stands at ``path`` of the definition. Raises DefinitionError."""
    for ecosystem in ECOSYSTEMS:
        for number, use in enumerate(ecosystem.uses(image)):
            place = loaded.places.place_text(*path, ecosystem.name, number)
            manifest = ecosystem.read(loaded.folder, use, architecture)
            yield Found(ecosystem=ecosystem, use=use, place=place, manifest=manifest)


def find_all(loaded: Loaded, architecture: str) -> Iterator[Found]:
    """Yield what all that is built of the definition uses. Raises DefinitionError."""
    yield from find(loaded, loaded.definition.image, ("image",), architecture)


def wanted_by(found: Sequence[Found]) -> Mapping[tuple[str, ...], Wanted]:
    """Return every file that is wanted, once, by its key."""
    return {one.key: one for each in found for one in each.manifest.wanted}


def artifacts_of(found: Found, lock: Lock) -> tuple[Artifact, ...]:
    """Return what the lock has of one use, in a fixed order. Raises BakeError for what it lacks."""
    known = {one.order: one for one in lock.artifacts}
    missing = next((one for one in found.manifest.wanted if one.key not in known), None)
    if missing is not None:
        raise BakeError(
            f"cannot bake '{found.ecosystem.name}': '{missing.shown}' is not in the lock", hint="instar lock"
        )
    return tuple(known[key] for key in sorted(one.key for one in found.manifest.wanted))
