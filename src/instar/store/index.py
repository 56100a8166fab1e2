"""index.json: which images the store has, and their tags. Replaced whole, under a lock.

ROOT/
├── oci-layout     the version of the layout
├── index.json     a descriptor for each image without a tag and one for each tag
└── lock           flock: one process at a time changes index.json or collects garbage

A crash leaves the old index or the new one. An image is entered last, when all its blobs are stored.
Source: OCI image-spec 1.1, image-layout.md and annotations.md (org.opencontainers.image.ref.name).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from instar import durable
from instar.errors import StoreError
from instar.model.codec import canonical, parse
from instar.model.digest import Digest
from instar.store.blobs import Blobs, written
from instar.store.faults import reported
from instar.store.manifest import INDEX_TYPE

Descriptor = Mapping[str, Any]

_TAG = "org.opencontainers.image.ref.name"
_TAG_FORM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")  # Source: OCI distribution-spec 1.1, Pulling manifests
_ATTACHMENTS: Final = re.compile(r"sha256-[0-9a-f]{64}")
LAYOUT: Final = canonical({"imageLayoutVersion": "1.0.0"})


class Index:
    """The index of the store at ``root``; new versions of it are written beside ``blobs``."""

    def __init__(self, root: Path, blobs: Blobs) -> None:
        self.root = root
        self._blobs = blobs

    def make(self) -> None:
        """Make an empty index where there is none."""
        if not (self.root / "oci-layout").exists():
            self._replace("oci-layout", LAYOUT)
        if not (self.root / "index.json").exists():
            with self.locked():
                if not (self.root / "index.json").exists():
                    self.write([])

    def read(self) -> tuple[Descriptor, ...]:
        """Return its descriptors, in the order in which they were entered. Raises StoreError when it is damaged."""
        path = self.root / "index.json"
        try:
            with reported(f"read '{path}'", self.root):
                manifests = parse(durable.read(path))["manifests"]
            for item in manifests:
                _require_descriptor(item)
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"cannot read '{path}': it is damaged ({error!r:.200}); no image was touched, and what runs goes on",
                hint="move it away and bake again: the blobs are not lost",
            ) from error
        return tuple(manifests)

    @contextlib.contextmanager
    def changed(self) -> Iterator[list[Descriptor]]:
        """Give the descriptors to change, under the lock; what they then are is written, if it is anything new."""
        with self.locked():
            before = self.read()
            descriptors = list(before)
            yield descriptors
            if descriptors != list(before):
                self.write(descriptors)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock inside. Waits for whoever holds it."""
        with reported(f"lock '{self.root}'", self.root):
            descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def write(self, descriptors: Sequence[Descriptor]) -> None:
        """Replace the index; call it under the lock."""
        self._replace("index.json", index_json(descriptors))

    def _replace(self, name: str, content: bytes) -> None:
        with reported(f"write '{self.root / name}'", self.root), self._blobs.scratch() as scratch:
            written([content], scratch.descriptor)
            durable.move(scratch.path, self.root / name)


def _require_descriptor(item: Any) -> None:
    """Raise ValueError, KeyError or TypeError for what is no descriptor that this room has written."""
    Digest(item["digest"])
    annotations = item.get("annotations") if isinstance(item, dict) else 0
    if not (annotations is None or isinstance(annotations, dict)):
        raise TypeError("an entry is not a descriptor")


def index_json(descriptors: Sequence[Descriptor]) -> bytes:
    return canonical({"manifests": descriptors, "mediaType": INDEX_TYPE, "schemaVersion": 2})


def entered(descriptor: Descriptor, tag: str | None) -> Descriptor:
    """Return the descriptor as it stands in an index, under ``tag``."""
    bare = _untagged(descriptor)
    return bare if tag is None else {**bare, "annotations": {**bare.get("annotations", {}), _TAG: tag}}


def digests(descriptors: Sequence[Descriptor]) -> tuple[Digest, ...]:
    """Return the images' digests, each once, in the order in which they were entered."""
    return tuple(dict.fromkeys(Digest(item["digest"]) for item in descriptors if not lists_attachments(_tag(item))))


def tags(descriptors: Sequence[Descriptor]) -> dict[str, Digest]:
    named = ((_tag(item), item) for item in descriptors)
    return {name: Digest(item["digest"]) for name, item in named if name is not None and not lists_attachments(name)}


def attachments(descriptors: Sequence[Descriptor], subject: Digest) -> Digest | None:
    """Return the list of what is attached to an image (attachments.py)."""
    found = (Digest(item["digest"]) for item in descriptors if _tag(item) == attachments_tag(subject))
    return next(found, None)


def set_attachments(descriptors: list[Descriptor], subject: Digest, listing: Descriptor) -> None:
    """Enter the list of what is attached to an image, in place of the one before."""
    name = attachments_tag(subject)
    descriptors[:] = [*(item for item in descriptors if _tag(item) != name), entered(listing, name)]


def lists_attachments(tag: str | None) -> bool:
    """Tell whether a tag is of a list of attachments, and of no image."""
    return tag is not None and _ATTACHMENTS.fullmatch(tag) is not None


def attachments_tag(subject: Digest) -> str:
    return f"sha256-{subject.hex}"


def enter(descriptors: list[Descriptor], descriptor: Descriptor) -> None:
    """Enter an image, if it isn't there."""
    if descriptor["digest"] not in digests(descriptors):
        descriptors.append(descriptor)


def give_tag(descriptors: list[Descriptor], name: str, digest: Digest) -> None:
    """Give the tag to an image that is entered; the image that had it stays entered. The order doesn't change."""
    if tags(descriptors).get(name) == digest:
        return
    freed = [_untagged(item) if _tag(item) == name else item for item in descriptors]
    at = max(number for number, item in enumerate(freed) if item["digest"] == digest)
    freed.insert(at + 1, entered(freed[at], name))
    descriptors[:] = _without_repetition(freed)


def drop(descriptors: list[Descriptor], gone: Collection[str]) -> None:
    """Take images out, with their tags and attachments."""
    lists = {f"sha256-{digest.partition(':')[2]}" for digest in gone}
    descriptors[:] = [item for item in descriptors if item["digest"] not in gone and _tag(item) not in lists]


def check_tag(name: str) -> None:
    """Raise StoreError when ``name`` can't be a tag."""
    if not _TAG_FORM.match(name):
        raise StoreError(
            f"cannot tag an image '{name}': a tag is at most 128 letters, digits, '_', '.' and '-'",
            hint="it begins with a letter, a digit or '_'",
        )


def _tag(descriptor: Descriptor) -> str | None:
    name = (descriptor.get("annotations") or {}).get(_TAG)
    return name if isinstance(name, str) else None


def _untagged(descriptor: Descriptor) -> dict[str, Any]:
    rest = {key: value for key, value in (descriptor.get("annotations") or {}).items() if key != _TAG}
    bare = {key: value for key, value in descriptor.items() if key != "annotations"}
    return {**bare, "annotations": rest} if rest else bare


def _without_repetition(descriptors: Sequence[Descriptor]) -> list[Descriptor]:
    """Keep one descriptor without a tag only for an image that has no other."""
    tagged = {item["digest"] for item in descriptors if _tag(item) is not None}
    return [item for item in descriptors if _tag(item) is not None or item["digest"] not in tagged]
