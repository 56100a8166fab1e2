"""What an image stands on, as a definition says it. It is kept as one text:

debian:SUITE    bootstrapped from locked packages
scratch         nothing at all
oci:IMAGE       the layers of an image that somebody else made (:func:`oci_base`)
image:PATH      the layers that another definition bakes
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Final

from instar.frozen import dataclass
from instar.model.digest import Digest
from instar.model.reference import Repository, reference, tagged

SCRATCH: Final = "scratch"
_DEBIAN: Final = "debian:"
OCI: Final = "oci:"
IMAGE: Final = "image:"
_ARCHIVE: Final = "./"
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, kw_only=True, slots=True)
class OciBase:
    """An image in a registry's ``repository``, in an ``archive`` beside the definition, or, with neither, one that the
    store has. Of a tag, ``digest`` is None: the lock has it."""

    repository: Repository | None = None
    archive: str | None = None
    tag: str | None = None
    digest: Digest | None = None


def is_debian(base: str) -> bool:
    return base.startswith(_DEBIAN)


def as_oci(text: str) -> str:
    return OCI + text


def as_definition(path: str) -> str:
    return IMAGE + path


def find_oci(base: str) -> OciBase | None:
    """Return the image of others that ``base`` is, None where it is none."""
    return oci_base(base.removeprefix(OCI)) if base.startswith(OCI) else None


def find_definition(base: str) -> str | None:
    """Return the path of the definition that ``base`` is, None where it is none."""
    return base.removeprefix(IMAGE) if base.startswith(IMAGE) else None


def without_kind(base: str) -> str:
    """Return a base as its definition has it: without the word that says which kind it is."""
    return base.removeprefix(OCI).removeprefix(IMAGE)


def oci_base(text: str) -> OciBase:
    """Read HOST/PATH:TAG, HOST/PATH@sha256:…, ./FILE, ./FILE@sha256:… or sha256:…. Raises ValueError with what is
    wrong."""
    if text.startswith("sha256:"):
        return OciBase(digest=Digest(text))
    if text.startswith(_ARCHIVE):
        path, at, digest = text.partition("@sha256:")
        return OciBase(archive=_beside(path), digest=Digest.from_hex(digest) if at else None)
    if "@" in text:
        found = reference(text)
        return OciBase(repository=found.repository, digest=found.digest)
    repository, tag = tagged(text)
    if tag is None:
        raise ValueError(f"which of its images is not said: '{text}:TAG', or '{text}@sha256:…'")
    return OciBase(repository=repository, tag=tag)


def _beside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if ".." in parts or not parts or _CONTROL.search(path):
        raise ValueError("an archive lies in the definition's folder, such as './base.tar'")
    return str(PurePosixPath(path))


def definition_path(text: str) -> str:
    """Read the path of another definition, from the folder of the one that names it. Raises ValueError."""
    path = PurePosixPath(text)
    if path.is_absolute():
        raise ValueError("it is written from this definition's folder, such as '../base/instar.yaml'")
    if _CONTROL.search(text) or len(text) > 1000:
        raise ValueError("it is too long, or there is a control character in it")
    if path.suffix not in (".yaml", ".yml"):
        raise ValueError(f"it names a definition's file; did you mean '{path / 'instar.yaml'}'?")
    return str(path)
