"""Which Debian packages a definition asks for, and where it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from instar.frozen import dataclass
from instar.model.lock import PYTHON

if TYPE_CHECKING:
    from instar.definition.parts import ImagePart


@dataclass(frozen=True, kw_only=True, slots=True)
class WantedPackage:
    """A package that the definition asks for, and where it does. ``version`` may end in ``*``: the newest of these.

    ``archive``: the one that it comes from, by the definition's name; None for those that the base is from.
    """

    name: str
    version: str | None
    place: str
    archive: str | None = None

    @property
    def text(self) -> str:
        return f"{self.name}={self.version}" if self.version else self.name


def wanted_packages(
    packages: Sequence[str], place: Callable[[int], str], python_place: str | None
) -> list[WantedPackage]:
    """Return what is wanted: ``packages``, and Python when the definition has wheels (``python_place``)."""
    found = []
    for number, text in enumerate(packages):
        name, _, version = text.partition("=")
        found.append(WantedPackage(name=name, version=version or None, place=place(number)))
    if python_place is not None and PYTHON not in {one.name for one in found}:
        found.append(WantedPackage(name=PYTHON, version=None, place=python_place))
    return found


def wanted_of(part: ImagePart) -> list[WantedPackage]:
    """Return what the definition asks for in its image, or in a stage."""
    python_place = part.place("python") if part.made.python is not None else None
    own = wanted_packages(part.made.packages, lambda number: part.place("packages", number), python_place)
    found = [*own, *_of_archives(part)]
    named = {one.name for one in found if one.archive}
    return [one for one in found if one.archive or one.name not in named]  # Python may come from an archive


def _of_archives(part: ImagePart) -> Iterator[WantedPackage]:
    for archive, wish in sorted(part.made.archives.items()):
        for number, text in enumerate(wish.packages):
            name, _, version = text.partition("=")
            place = part.place("archives", archive, "packages", number)
            yield WantedPackage(name=name, version=version or None, place=place, archive=archive)


def fits(version: str, wish: str | None) -> bool:
    """Tell whether a version is the one, or one of these, that is wished for; None: any."""
    if wish is None or not wish.endswith("*"):
        return wish in (None, version)
    return version.startswith(wish[:-1])
