"""What a definition asks for besides what its base has: a package that is there is not installed again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from instar.errors import ResolveError
from instar.lock.beneath import Beneath
from instar.lock.wanted import WantedPackage, fits
from instar.model.lock import PYTHON

if TYPE_CHECKING:
    from instar.definition.parts import ImagePart


def still_wanted(part: ImagePart, wanted: Sequence[WantedPackage], below: Beneath) -> list[WantedPackage]:
    """Return what of ``wanted`` the base has not. Raises ResolveError for another version than the base's, and where
    nothing can be installed there."""
    versions = below.installed.versions
    found, problems = list[WantedPackage](), list[str]()
    for one in wanted:
        has = versions.get(one.name)
        if has is None and not (one.name == PYTHON and below.installed.python is not None):
            found.append(one)
        elif has is not None and not fits(has, one.version):
            problems.append(f"{one.place}: cannot lock '{one.text}': the base has '{one.name}' {has}, which stays")
    if problems:
        hint = "lock the base with that version, or name the one that it has, or none"
        raise ResolveError("\n".join(problems), hint=hint)
    if found and below.unfit:
        first = found[0]
        raise ResolveError(
            f"{part.place('base')}: cannot install '{first.name}' ({first.place}) over this base: {below.unfit}",
            hint="take a base that has dpkg, or bring files by 'fetch', 'files' or a stage",
        )
    return found
