"""Which Debian packages a definition asks for, and where it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from instar.frozen import dataclass
from instar.model.lock import PYTHON

if TYPE_CHECKING:
    from instar.definition import Loaded


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A package that the definition asks for, and where it does."""

    name: str
    version: str | None
    place: str

    @property
    def text(self) -> str:
        return f"{self.name}={self.version}" if self.version else self.name


def wanted_packages(packages: Sequence[str], place: Callable[[int], str], python_place: str | None) -> list[Wanted]:
    """Return what is wanted: ``packages``, and Python when the definition has wheels (``python_place``)."""
    found = []
    for number, text in enumerate(packages):
        name, _, version = text.partition("=")
        found.append(Wanted(name=name, version=version or None, place=place(number)))
    if python_place is not None and PYTHON not in {one.name for one in found}:
        found.append(Wanted(name=PYTHON, version=None, place=python_place))
    return found


def wanted_of(loaded: Loaded) -> list[Wanted]:
    """Return what the definition asks for."""
    image, place = loaded.definition.image, loaded.places.place_text
    python_place = place("image", "python") if image.python is not None else None
    return wanted_packages(image.packages, lambda number: place("image", "packages", number), python_place)
