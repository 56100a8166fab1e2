"""What an image or a stage has of ecosystems: each use of one, with what its author's files say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from instar.definition.parts import ImagePart
from instar.ecosystems.known import INSTALLING, OFFERING, installing, known_ecosystem, offering
from instar.ecosystems.protocol import Ecosystem, Installing, Manifest, Offering, WantedFile
from instar.errors import BakeError
from instar.frozen import dataclass
from instar.model.lock import Artifact, Lock

E_co = TypeVar("E_co", bound=Ecosystem, covariant=True)


@dataclass(frozen=True, kw_only=True)
class EcosystemUse(Generic[E_co]):
    """One use of an ecosystem; ``place`` is where the definition asks for it."""

    ecosystem: E_co
    use: Any
    place: str
    manifest: Manifest


def find_installing(part: ImagePart, architecture: str) -> Iterator[EcosystemUse[Installing]]:
    """Yield what the part has installed in steps of their own. Raises DefinitionError."""
    yield from _find(INSTALLING, installing, part, architecture)


def find_offering(part: ImagePart, architecture: str) -> Iterator[EcosystemUse[Offering]]:
    """Yield what the lines of the part's ``run`` are offered. Raises DefinitionError."""
    yield from _find(OFFERING, offering, part, architecture)


def find_all(part: ImagePart, architecture: str) -> Iterator[EcosystemUse[Ecosystem]]:
    """Yield all that the part uses. Raises DefinitionError."""
    yield from _find((*INSTALLING, *OFFERING), known_ecosystem, part, architecture)


def _find(
    names: Sequence[str], load: Callable[[str], E_co], part: ImagePart, architecture: str
) -> Iterator[EcosystemUse[E_co]]:
    for name in names:
        for number, use in enumerate(getattr(part.made, name)):
            ecosystem = load(name)
            manifest = ecosystem.read(part.loaded.folder, use, architecture)
            yield EcosystemUse(ecosystem=ecosystem, use=use, place=part.place(name, number), manifest=manifest)


def wanted_by(found: Sequence[EcosystemUse[Ecosystem]]) -> Mapping[tuple[str, ...], WantedFile]:
    """Return every file that is wanted, once, by its key."""
    return {one.key: one for each in found for one in each.manifest.wanted}


def artifacts_of(found: EcosystemUse[Ecosystem], lock: Lock) -> tuple[Artifact, ...]:
    """Return what the lock has of one use, in a fixed order. Raises BakeError for what it lacks."""
    if found.manifest.asked is not None:
        return tuple(one for one in lock.artifacts if one.ecosystem == found.ecosystem.name)
    known = {one.order: one for one in lock.artifacts}
    missing = next((one for one in found.manifest.wanted if one.key not in known), None)
    if missing is not None:
        raise BakeError(
            f"cannot bake '{found.ecosystem.name}': '{missing.shown}' is not in the lock", hint="instar lock"
        )
    return tuple(known[key] for key in sorted(one.key for one in found.manifest.wanted))
