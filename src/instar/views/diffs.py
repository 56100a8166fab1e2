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
_FILES_PLANNED: Final = 5
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
        yield from _image_lines(diff.image, len(diff.image.files) if all_files else _FILES_SHOWN, rest="--files")


def planned_image_page(image: ImageDiff) -> Page:
    """Yield what would be other in an image, with the first of its files."""
    return _image_lines(image, _FILES_PLANNED, rest="--json")


def _image_lines(image: ImageDiff, at_most: int, *, rest: str) -> Page:
    """Yield what is other in an image, and ``at_most`` so many of its files; ``rest``: the option that shows all."""
    if image.packages:
        yield "\npackages"
        yield Table(
            rows=[("  " + one.name, one.kind, one.before or "—", "→", one.after or "—") for one in image.packages]
        )
    if image.files:
        count = Counter(one.kind for one in image.files)
        yield f"\nfiles: {count['added']:,} added, {count['removed']:,} removed, {count['changed']:,} changed"
        shown = image.files[:at_most]
        yield Table(rows=[(f"{_SIGNS[one.kind]} {one.path}", _about(one)) for one in shown])
        if len(shown) < len(image.files):
            yield f"  and {len(image.files) - len(shown):,} more: add {rest}"


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
