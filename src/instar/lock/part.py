"""One image or stage that is to be locked for one architecture, with all that this goes by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from instar.definition.parts import ImagePart
from instar.errors import ResolveError
from instar.fetch.cache import Cache
from instar.frozen import dataclass
from instar.lock.beneath import Beneath
from instar.model.architectures import platform_of
from instar.model.base import OciBase
from instar.model.lock import BaseImage, Lock, Wheel
from instar.model.progress import Progress, Report

if TYPE_CHECKING:
    from instar.ecosystems.protocol import OpenSandbox


class FindBase(Protocol):
    """Who knows the images that others stand on. Raises LockError, FetchError, StoreError."""

    def __call__(self, part: ImagePart, wanted: OciBase, architecture: str, /) -> BaseImage:
        """Return what a lock holds of an image of others, of several platforms that of an ``architecture``."""

    def beneath(self, part: ImagePart, base: BaseImage | None, architecture: str, /) -> Beneath:
        """Return what the image that a part stands on has installed; ``base``: the one of others that it is."""


@dataclass(frozen=True, kw_only=True)
class PartToLock:
    """The image or a stage that is to be locked for an ``architecture``. ``before``: what was; ``kept``: that, where it
    stays as far as it can, ``alike``: a lock whose versions it takes besides; ``freed``: what may move all the same."""

    part: ImagePart
    architecture: str
    before: Lock | None
    kept: Lock | None
    alike: Lock | None
    freed: frozenset[str]
    cache: Cache
    report: Report
    anew: bool
    find_base: FindBase | None
    open_sandbox: OpenSandbox | None

    @property
    def finder(self) -> FindBase:
        """Raises ResolveError where nobody knows images."""
        if self.find_base is None:
            place = self.part.place("base")
            raise ResolveError(f"{place}: cannot look for an image: there is neither a store nor a registry")
        return self.find_base

    def say(self, text: str) -> None:
        name = f"{platform_of(self.architecture)} · " if self.part.loaded.definition.image.platforms else ""
        self.report(Progress(stage="lock", text=f"{name}{self.part.named(text)}", kind="running"))

    def warn(self, text: str) -> None:
        self.report(Progress(stage="lock", text=text, kind="warning"))

    def versions(self) -> Mapping[str, str]:
        """Return the versions of packages to prefer to newer ones."""
        alike, kept = (lock.packages if lock is not None else () for lock in (self.alike, self.kept))
        own = {one.name: one.version for one in kept if one.name not in self.freed}
        return {**{one.name: one.version for one in alike}, **own}

    def wheels(self) -> tuple[Wheel, ...]:
        """Return the wheels whose versions to prefer."""
        alike, kept = (lock.wheels if lock is not None else () for lock in (self.alike, self.kept))
        found = {one.name: one for one in alike}
        found |= {one.name: one for one in kept if one.name not in self.freed or self.alike is None}
        return tuple(found[name] for name in sorted(found))
