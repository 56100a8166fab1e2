"""The form of a platform that an image is made for: ``image.platforms``."""

from __future__ import annotations

from typing import Final

from instar.definition.forms import Misfit
from instar.definition.problems import nearest
from instar.model.architectures import ARCHITECTURES, PLATFORMS, platform_of

_PLAIN: Final = {"arm64/v8": "arm64", "amd64/v1": "amd64", "x64": "amd64", "x86-64": "amd64"}  # other words for one


def platform(text: str) -> str:
    """A platform by OCI's name, without a variant."""
    if text in PLATFORMS:
        return text
    word = text.lower().removeprefix("linux/")
    word = ARCHITECTURES.get(word, _PLAIN.get(word, word))
    near = nearest(word, ARCHITECTURES.values(), cutoff=0.75)
    raise Misfit(f"did you mean '{platform_of(near)}'?" if near else "images are made for no other platforms")
