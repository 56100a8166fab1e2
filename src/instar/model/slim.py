"""What of its base an image keeps that has only what its service needs."""

from __future__ import annotations

from dataclasses import field

from instar.frozen import dataclass
from instar.model.declaration import key


@dataclass(frozen=True, kw_only=True, slots=True)
class Slim:
    """An image of one layer, of what the base brings only what the service needs."""

    keep: tuple[str, ...] = field(
        default=(),
        metadata=key(
            "Files and folders of the base that are kept besides, with what they need.",
            "path inside",
            unique=True,
            expected="a list of paths in the image, such as [/usr/share/zoneinfo]",
        ),
    )
