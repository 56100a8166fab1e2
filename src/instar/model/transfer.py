"""What a push or a pull did."""

from __future__ import annotations

from instar.frozen import dataclass
from instar.model.digest import Digest
from instar.model.reference import Repository


@dataclass(frozen=True, kw_only=True, slots=True)
class Transfer:
    """An image, and the repository that it went to or came from. ``blobs`` and ``size_bytes`` are of all of it besides
    its manifest, ``moved`` and ``moved_bytes`` of what went or came; ``tags`` are those that a push gave it;
    ``attachments``: how many came or went with it, such as signatures."""

    repository: Repository
    digest: Digest
    blobs: int
    size_bytes: int
    moved: int
    moved_bytes: int
    seconds: float
    tags: tuple[str, ...] = ()
    attachments: int = 0
