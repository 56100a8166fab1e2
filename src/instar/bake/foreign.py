"""Programs for another architecture than the image's: nothing says so before one is to run, and then it says little."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from instar.bake import elf
from instar.bake.scratch import Room
from instar.model.architectures import platform_of

_SHOWN: Final = 3
_RUN_TOO: Final = {"amd64": ("i386",), "arm64": ("armhf",)}  # what a processor runs besides its own


def look_for_foreign(programs: Mapping[str, bytes], place: str, room: Room) -> None:
    """Look at programs and libraries that were brought, by their paths and first bytes, of which none may be for the
    image's architecture. Where some are, the others are there for other machines.

    Warns of it; raises StepFailed where the definition says for which platforms the image is.
    """
    known = {path: found for path, start in programs.items() if (found := elf.architecture(start)) is not None}
    fitting = (room.architecture, *_RUN_TOO.get(room.architecture, ()))
    if not known or any(found in fitting for found in known.values()):
        return
    paths = [f"'/{path.lstrip('/')}'" for path in sorted(known)]
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    kinds = ", ".join(sorted(set(known.values())))
    text = (
        f"{', '.join(paths[:_SHOWN])}{more}: for {kinds}, and the image is for {room.architecture}: not to be run there"
    )
    if room.declared:
        first = platform_of(sorted(set(known.values()))[0])
        raise room.failed(text, place=place, hint=f"say there whose it is: 'platform: {first}'; and bring one for each")
    room.warn(f"{place}: {text}")
