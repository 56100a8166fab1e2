"""What a Dockerfile's stage begins with → a Debian, and the packages for what an image of others is known to bring."""

from __future__ import annotations

from typing import Final

from instar.adopt.draft import Draft, DraftValue, Origin
from instar.adopt.same_base import same_base

_SUITES: Final = ("bookworm", "trixie", "bullseye", "forky")
_NUMBERS: Final = {"11": "bullseye", "12": "bookworm", "13": "trixie"}
_WITH_PACKAGES: Final = {
    "python": ("python3",),
    "node": ("nodejs",),
    "golang": ("golang",),
    "rust": ("rustc", "cargo"),
    "gcc": ("gcc", "g++", "make"),
    "ruby": ("ruby",),
    "php": ("php-cli",),
    "perl": ("perl",),
    "nginx": ("nginx-light",),
    "httpd": ("apache2",),
    "redis": ("redis-server",),
    "openjdk": ("default-jre-headless",),
    "eclipse-temurin": ("default-jre-headless",),
    "amazoncorretto": ("default-jre-headless",),
    "maven": ("maven", "default-jdk-headless"),
}


def is_known(image: str) -> bool:
    """Tell whether what an image of others brings is known here."""
    name = _name_and_tag(image)[0]
    return name == "debian" or name in _WITH_PACKAGES or same_base(image) is not None


def begin(draft: Draft, image: str, origin: Origin) -> None:
    """Choose what to stand on: the same, or a Debian, and the packages for what an image is known to bring."""
    same = same_base(image)
    if same is not None:
        draft.base = DraftValue(yaml=same, origin=origin)
        return
    name, tag = _name_and_tag(image)
    suite = next((one for one in _SUITES if one in tag), None)
    if name == "debian":
        suite = suite or next((_NUMBERS[number] for number in _NUMBERS if tag.startswith(number)), None)
    draft.base = DraftValue(yaml=f"debian:{suite or 'bookworm'}", origin=origin)
    for package in _WITH_PACKAGES.get(name, ()):
        draft.packages[package] = origin
    if name in _WITH_PACKAGES:
        draft.leave(origin, f"the version of '{image}': Debian {suite or 'bookworm'} has one of its own")
    elif name != "debian":
        draft.leave(origin, f"what '{image}' brings: this image stands on Debian, name what is missing as packages")


def _name_and_tag(image: str) -> tuple[str, str]:
    whole, _, tag = image.partition("@")[0].partition(":")
    return whole.rpartition("/")[2], tag
