"""What Instar's tags hold in a repository of a registry: images that releases need, or needed.

A tag ``instar-`` with the first 12 digits of an image's digest, and 8 of the ledger that holds it. One without these
says that some machine pushed the image, and not for whom.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from instar.frozen import dataclass
from instar.model.digest import Digest
from instar.model.reference import Repository

State = Literal["needed", "unneeded", "unreleased", "others"]
_FORM: Final = re.compile(r"instar-([0-9a-f]{12})(?:-([0-9a-f]{8}))?")
_HOLDER_DIGITS: Final = 8


def holder_of(identity: str) -> str:
    """Return how the ledger of an ``identity`` is called in tags; "" for one that has no events yet."""
    return identity.rpartition(":")[2][:_HOLDER_DIGITS]


def tag_of(digest: Digest, holder: str) -> str:
    return f"instar-{digest.short}{f'-{holder}' if holder else ''}"


def read_tag(tag: str) -> tuple[str, str] | None:
    """Return the beginning of the digest and the holder ("" for none) that a tag of Instar's says; None: it is none."""
    found = _FORM.fullmatch(tag)
    return (found[1], found[2] or "") if found else None


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldImage:
    """One tag of Instar's. ``state``: a kept release of this ledger needs its image, or the newest bake is that; none
    does that once did; it was never released here; it is not this ledger's to say (``others``).

    ``change``: what was done, or would be, if anything: it is "put" where a needed image had none, or "removed";
    ``stays``: why one that nothing needs could not be.
    """

    tag: str
    digest: Digest | None  # None: not known here
    state: State
    releases: tuple[str, ...] = ()
    change: Literal["", "put", "removed"] = ""
    stays: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldImages:
    """Of all tags of a repository those that are Instar's; ``other_tags`` are everybody else's."""

    repository: Repository
    images: tuple[HeldImage, ...]
    other_tags: int
    done: bool  # what is to change was changed
