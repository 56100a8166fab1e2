"""Releases, as JSON and in a sentence."""

from __future__ import annotations

from typing import Any, Final

from instar.model.origin import Origin
from instar.model.release import Release

_COMMIT_LENGTH: Final = 10


def pinned_json(release: Release) -> dict[str, Any]:
    return {
        "service": release.environment.service,
        "environment": release.environment.name,
        "release": release.number,
        "pinned": release.pinned,
    }


def pinned_sentence(release: Release) -> str:
    kept = "kept until it is unpinned" if release.pinned else "not pinned"
    return f"release {release.number} of {release.environment} is {kept}"


def origin_line(origin: Origin) -> str:
    """Return where a release comes from: "main 3f2a1bc4d0, with changes · from dev 9 · ann on web1 · fix the login"."""
    words = []
    if origin.commit is not None:
        branch = f"{origin.commit.branch} " if origin.commit.branch else ""
        changed = "" if origin.commit.clean else ", with changes"
        words.append(f"{branch}{origin.commit.id[:_COMMIT_LENGTH]}{changed}")
    if origin.promoted is not None:
        words.append(f"from {origin.promoted.environment} {origin.promoted.release}")
    words.append(f"{origin.by} on {origin.machine}")
    if origin.message is not None:
        words.append(origin.message)
    return " · ".join(words)
