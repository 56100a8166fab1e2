"""The forms of what an image stands on: ``image.base``."""

from __future__ import annotations

import contextlib
from typing import Final

from instar.definition.forms import Misfit, fits
from instar.definition.problems import nearest
from instar.model.base import SCRATCH, definition_path, oci_base
from instar.model.reference import DOCKER

BASE: Final = rf"debian:[a-z][a-z0-9-]{{0,39}}|{SCRATCH}"
_DEBIAN_NUMBERS: Final = {"11": "bullseye", "12": "bookworm", "13": "trixie", "14": "forky"}


def base(text: str) -> str:
    """What stands there as one text: a Debian suite, or nothing at all."""
    if fits(BASE, text):
        return text
    distribution, _, suite = text.partition(":")
    if distribution == "debian" and suite.split(".")[0] in _DEBIAN_NUMBERS:
        raise Misfit(f"did you mean 'debian:{_DEBIAN_NUMBERS[suite.split('.')[0]]}'?")
    if text in _DEBIAN_NUMBERS.values():
        raise Misfit(f"did you mean 'debian:{text}'?")
    if nearest(text, [SCRATCH]):
        raise Misfit(f"did you mean '{SCRATCH}'?")
    if text.endswith((".yaml", ".yml")):
        raise Misfit(f"another definition is written as {{image: {text}}}")
    if nearest(text, _DEBIAN_NUMBERS.values()):
        raise Misfit(f"did you mean 'debian:{nearest(text, _DEBIAN_NUMBERS.values())}'?")
    image = None if distribution == "debian" else _image(text)
    raise Misfit(f"an image of a registry is written as {{oci: '{image}'}}" if image else "")


def image_of_others(text: str) -> str:
    try:
        oci_base(text)
    except ValueError as error:
        raise Misfit(str(error)) from None
    return text


def other_definition(text: str) -> str:
    try:
        return definition_path(text)
    except ValueError as error:
        raise Misfit(str(error)) from None


def _image(text: str) -> str | None:
    """Return the name of the image that ``text`` is for Docker and others, whole; None where it can be none."""
    of_docker = f"{DOCKER}/{text}" if "/" in text else f"{DOCKER}/library/{text}"
    for whole in (text, f"{text}:latest", of_docker, f"{of_docker}:latest"):
        with contextlib.suppress(ValueError):
            oci_base(whole)
            return whole
    return None
