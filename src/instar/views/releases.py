"""Releases, as JSON and in a sentence."""

from __future__ import annotations

from typing import Any

from instar.model.release import Release


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
