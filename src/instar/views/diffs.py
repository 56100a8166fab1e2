"""What is different between two releases, as JSON and as a page."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from instar.model.codec import to_json
from instar.model.image_diff import FileChange, ImageDiff
from instar.model.release import Release
from instar.model.release_diff import ReleaseDiff
from instar.views.page import Page, Table
from instar.views.releases import origin_line

_FILES_SHOWN: Final = 20
_SIGNS: Final = {"added": "+", "removed": "-", "changed": " "}


def diff_json(diff: ReleaseDiff) -> dict[str, Any]:
    """``packages`` and ``files`` are null where one of the images is not here any more."""
    environment = diff.after.environment
    return {
        "service": environment.service,
        "environment": environment.name,
        "before": _release_json(diff.before),
        "after": _release_json(diff.after),
        "configuration": diff.configuration,
        "packages": diff.image and diff.image.packages,
        "files": diff.image and diff.image.files,
    }


def diff_page(diff: ReleaseDiff, *, all_files: bool) -> Page:
    """Yield the two releases, then what is other: configuration, packages, and files, at most a few unless all are
    wanted."""
    yield Table(rows=[_release_row(diff.before), _release_row(diff.after)])
    if diff.is_same:
        yield "they are the same image and configuration"
    if diff.configuration:
        yield "\nconfiguration"
        yield Table(rows=[("  " + one.what, one.before or "—", "→", one.after or "—") for one in diff.configuration])
    if diff.image is None:
        yield "\nof the images nothing is known: one of them is not here any more"
    else:
        yield from image_page(diff.image, all_files=all_files)


def image_page(image: ImageDiff, *, all_files: bool | None = None) -> Page:
    """Yield what is other in an image; of its files only how many where ``all_files`` is None."""
    if image.packages:
        yield "\npackages"
        yield Table(
            rows=[("  " + one.name, one.kind, one.before or "—", "→", one.after or "—") for one in image.packages]
        )
    if image.files:
        count = Counter(one.kind for one in image.files)
        yield f"\nfiles: {count['added']:,} added, {count['removed']:,} removed, {count['changed']:,} changed"
        if all_files is None:
            return
        shown = image.files if all_files else image.files[:_FILES_SHOWN]
        yield Table(rows=[(f"{_SIGNS[one.kind]} {one.path}", _about(one)) for one in shown])
        if len(shown) < len(image.files):
            yield f"  and {len(image.files) - len(shown):,} more: add --files"


def _about(file: FileChange) -> str:
    if file.kind != "changed":
        return ""
    resized = file.before_bytes != file.after_bytes
    return ", ".join(file.what) + (f" ({file.before_bytes:,} → {file.after_bytes:,} B)" if resized else "")


def _release_row(release: Release) -> tuple[str, ...]:
    origin = origin_line(release.origin) if release.origin else ""
    return (f"release {release.number}", release.image.short, f"{release.created_at:%Y-%m-%d %H:%M} UTC", origin)


def _release_json(release: Release) -> dict[str, Any]:
    return {
        "release": release.number,
        "image": release.image,
        "config": release.configuration.digest,
        "created_at": release.created_at,
        "origin": to_json(release.origin),
    }
