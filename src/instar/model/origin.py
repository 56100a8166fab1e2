"""Where a release comes from: what a person said of it, the commit it was made of, and who made it, on which machine.

None of it decides anything, and none of it is in a digest: the same image and configuration are the same release,
whoever made them.
"""

from __future__ import annotations

from dataclasses import field
from typing import Final

from instar.frozen import dataclass
from instar.model.codec import ADDED

MESSAGE_LIMIT: Final = 500  # characters


@dataclass(frozen=True, kw_only=True, slots=True)
class Commit:
    """The git commit that is checked out where the definition is: ``id`` whole, in hexadecimal.

    ``branch`` is None where none is checked out; ``clean``: nothing in the definition's folder differs from it.
    """

    id: str
    branch: str | None
    clean: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Promotion:
    """The release of another environment whose image a release has."""

    environment: str
    release: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """``by`` made the release on ``machine``; ``commit`` is None outside of git, and of an image that was named."""

    by: str
    machine: str
    message: str | None = field(default=None, metadata=ADDED)
    commit: Commit | None = field(default=None, metadata=ADDED)
    promoted: Promotion | None = field(default=None, metadata=ADDED)
