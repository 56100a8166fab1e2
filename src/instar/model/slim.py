"""What of its base an image keeps that has only what its service needs."""

from __future__ import annotations

from dataclasses import field
from typing import Final

from instar.frozen import dataclass
from instar.model.declaration import key

AT_THE_END: Final = ("apt", "shell")  # of what `strip` names: tools that go when all else is there


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
