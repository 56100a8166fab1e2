"""Entries of ``files`` that are of a stage, and what is known of what they take out of it.

A step that copies depends on what is taken and on nothing else of the stage: one that is baked anew, and has the same
there, runs nothing after it. What a stage has at a path follows from the key of its last step, so that it is found once
and remembered (kept_stages.py): a stage is baked only where something is to be copied out of it, or is not known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from instar.frozen import dataclass
from instar.model.codec import canonical


@dataclass(frozen=True, kw_only=True, slots=True)
class TakenContent:
    """What was found for a :class:`Take`: its digest (hex), and what it takes of memory."""

    digest: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Take:
    """One entry of ``files`` that is of a stage. ``owner`` is numbers; None: those of the image's user.

    ``content`` is None as long as nobody knows what the stage has there.
    """

    stage: str
    path: str
    exclude: tuple[str, ...]
    to: str
    owner: tuple[int, int] | None
    mode: int | None
    place: str
    keep: tuple[str, ...] = ()
    content: TakenContent | None = None


class Contents:
    """What is known of what stages have, in one bake. ``before``: what earlier ones found, by :func:`_key`."""

    def __init__(self, before: Mapping[str, TakenContent]) -> None:
        self._known = dict(before)
        self._ends: dict[str, str] = {}
        self._wanted: set[str] = set()

    def end(self, stage: str, key: str) -> None:
        """Say the key of a stage's last step; "" where that is not known."""
        self._ends[stage] = key

    def find(self, take: Take) -> TakenContent | None:
        """Return what the stage has for ``take``; None where that is not known."""
        return self._known.get(self._key(take)) if self._ends[take.stage] else None

    def add(self, take: Take, content: TakenContent) -> None:
        self._known[self._key(take)] = content

    def wanted(self) -> Mapping[str, TakenContent]:
        """Return what was asked for, and is known."""
        return {key: self._known[key] for key in self._wanted if key in self._known}

    def _key(self, take: Take) -> str:
        whole = {"stage": self._ends[take.stage], "path": take.path, "exclude": take.exclude, "keep": take.keep}
        key = hashlib.sha256(canonical(whole)).hexdigest()
        self._wanted.add(key)
        return key
