"""What is different between two releases of a service."""

from __future__ import annotations

from instar.frozen import dataclass
from instar.model.image_diff import ImageDiff
from instar.model.plan import PlannedChange
from instar.model.release import Release


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseDiff:
    """``image`` is None where one of the images is not here any more; ``configuration`` has dotted names."""

    before: Release
    after: Release
    image: ImageDiff | None
    configuration: tuple[PlannedChange, ...]

    @property
    def is_same(self) -> bool:
        return self.before.image == self.after.image and not self.configuration
