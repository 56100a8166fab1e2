"""The store: images at rest in an OCI image layout, content-addressed, checked on the way in and out.

STATE/store/                    all directories 0700
├── oci-layout, index.json      which images there are, and their tags (index.py)
├── blobs/sha256/HEX            manifests, configurations, layers; mode 0400 (blobs.py)
├── partial/                    what is being written (blobs.py)
└── lock                        one process at a time changes the index (index.py)

Always true: a blob under its name is whole; every image in the index had all its blobs when it was entered; what a
killed process leaves is at most files in ``partial/`` and blobs that nobody names, and ``collect`` takes both. The
store knows nothing of releases: who calls ``collect`` says what to keep.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from instar.errors import BlobDamaged, ImageNotFound, StoreError
from instar.model.digest import Digest
from instar.model.image import Image, ImageConfig, Layer
from instar.store import attachments, index, manifest, platforms, room
from instar.store.blobs import Blobs, damaged
from instar.store.faults import reported
from instar.store.index import Index
from instar.store.manifest import Descriptor
from instar.store.parts import Part, open_part, received_bytes

if TYPE_CHECKING:
    import re

    from instar.store import importing
    from instar.store.garbage import Collected
    from instar.store.listing import Listing
    from instar.store.selection import Selection

_PREFIX_LENGTH = 6  # of a digest that find() takes
_NAMED_IN_HINT = 5


class Store:
    """The store in the directory ``root``. Several processes and threads may use it at once."""

    def __init__(self, root: Path, platform: str | None = None) -> None:
        """Make the layout where it is missing. ``platform``: what an image for several is here; this machine's. Raises
        StoreError."""
        self.root = root
        self.platform = platform or platforms.here()
        self._blobs = Blobs(root)
        self._index = Index(root, self._blobs)
        with reported(f"open the store '{root}'", root):
            _make_directories(root)
            self._blobs.make()
            self._index.make()

    def on(self, platform: str) -> Store:
        """Return the same store as a machine of another platform has it."""
        return Store(self.root, platform)

    def add_blob(self, chunks: Iterable[bytes]) -> tuple[Digest, int]:
        """Store bytes under their digest; return it and their number.

        Returning means stored, after a crash too. Whole or not at all; idempotent; a damaged blob is replaced.
        """
        return self._blobs.add(chunks)

    def add_layer(self, tree: Path, *, step: str, epoch: int) -> Layer:
        """Store a tree in overlay form as a layer that is the same for the same tree.

        ``epoch`` (Unix seconds) is the latest time that a file keeps. One pass, in bounded memory. The mode and owner
        of ``tree`` itself become those of the image's root.

        Raises StoreError, naming the path, for what a layer can't hold: a device, a pipe, a socket, a name that
        begins with ``.wh.``.
        """
        from instar.store import layers

        return layers.pack(self._blobs, tree, step=step, epoch=epoch)

    def add_image(self, config: ImageConfig, layers: Sequence[Layer], *, created: int) -> Image:
        """Store an image of layers that are stored, from the lowest up; ``created`` is in Unix seconds.

        Atomic and idempotent. Raises BlobDamaged when a layer isn't there.
        """
        with self._index.changed() as descriptors:
            self._require(layers)
            data = manifest.config_json(config, layers, created=created)
            config_digest, config_size = self._blobs.add([data])
            pointer = manifest.manifest_json(config_digest, config_size, layers)
            digest, size = self._blobs.add([pointer])
            index.enter(descriptors, manifest.descriptor(manifest.MANIFEST_TYPE, digest, size))
        return manifest.image(digest, pointer, data)

    def part(self, digest: Digest, size_bytes: int) -> AbstractContextManager[Part | None]:
        """Give what is there so far of a blob that comes from elsewhere; None while another process adds to it."""
        return open_part(self._blobs, digest, size_bytes)

    def layers_of(self, data: bytes) -> tuple[Layer, ...]:
        """Return the layers that a manifest says, or the one of an index for this platform, with its configuration,
        which is stored. Raises ValueError, BlobDamaged."""
        return self._image_of_others(data).layers

    def add_manifest(self, data: bytes) -> Image:
        """Enter an image that was made elsewhere, whose manifest is ``data`` to the byte, or its index; all else of it
        is stored, of an index what is for this platform, and may be for others.

        Atomic and idempotent. Raises BlobDamaged where a part of it isn't there with its size, ValueError for what is
        no manifest, or does not fit its configuration.
        """
        with self._index.changed() as descriptors:
            found = self._image_of_others(data)
            self._blobs.add([data])
            entry = manifest.descriptor(manifest.media_type(data), found.digest, len(data))
            index.enter(descriptors, entry)
        return found

    def _image_of_others(self, data: bytes) -> Image:
        """Return the image of a manifest or an index, whose parts must be here; an index's other ones are held against
        what it says of them, too."""
        if not platforms.is_index(data):
            parts = manifest.descriptors(data)
            for part in parts:
                if not self._blobs.holds(part.digest, part.size_bytes):
                    raise BlobDamaged(f"cannot store an image: its part '{part.digest.short}' is missing or short")
            return manifest.image_of_others(data, self._blobs.read(parts[0].digest))
        wanted = platforms.own(data, self.platform)
        for one in platforms.present(self._blobs, data):
            if one.is_image:
                image = self._image_of_others(self._blobs.read(one.digest))
                platforms.require_fit(one, image.config.architecture)
        return replace(self._image_of_others(self._blobs.read(wanted.digest)), digest=Digest.of(data))

    def receive(self, path: Path, which: str | None = None, *, called: str | None = None) -> importing.Received:
        """Store the blobs of an image that others have written to ``path``; return its manifest for ``add_manifest``,
        and those of what is attached to it for ``attach``.

        ``path``: an OCI image layout, in a folder or a tar, or what ``docker save`` writes. ``which``: a name or digest
        there, where it holds several; ``called``: what errors call it, if that is not its path. Nothing is in the index
        yet. Raises StoreError, for whatever is wrong with it.
        """
        from instar.store import importing  # few commands receive any

        action = f"import '{called or path}'"
        with reported(action, self._blobs.partial):
            try:
                received = importing.receive(self._blobs, path, which)
                self.layers_of(received.manifest)
                return received
            except ValueError as error:
                raise StoreError(f"cannot {action}: {error}") from error

    def attach(self, subject: Digest, manifests: Sequence[bytes]) -> None:
        """Keep attachments of an image that is entered, besides those that it has, for as long as it is; all that they
        point at is stored. Atomic and idempotent."""
        with self._index.changed() as descriptors:
            if subject in index.digests(descriptors):
                attachments.attach(self._blobs, descriptors, subject, manifests)

    def attachments(self, subject: Digest) -> tuple[bytes, ...]:
        """Return the manifests of what is attached to an image, to the byte; what is not whole is left out."""
        return attachments.found(self._blobs, self._index, subject)

    def manifest(self, digest: Digest) -> bytes:
        """Return an image's manifest, checked, to the byte. Raises BlobDamaged."""
        return self._blobs.read(digest)

    def own_manifest(self, data: bytes) -> bytes:
        """Return ``data``, or what an index that it is has for this platform. Raises ValueError, BlobDamaged."""
        return platforms.own_manifest(self._blobs, data, self.platform)

    def holds_blob(self, digest: Digest, size_bytes: int) -> bool:
        """Whether a blob is there with that size; its bytes are not read."""
        return self._blobs.holds(digest, size_bytes)

    def holds_sound(self, digest: Digest, size_bytes: int) -> bool:
        """Whether a blob is there with that size and its own bytes. One with others is removed, to be brought anew."""
        if self._blobs.is_sound(digest, size_bytes):
            return True
        self._discard_damaged(digest)
        return False

    def require_room(self, parts: Iterable[Descriptor], action: str) -> None:
        """Raise StoreError "cannot ‹action›: …" where what is missing of ``parts`` has no room here."""
        missing = [one for one in parts if not self._blobs.holds(one.digest, one.size_bytes)]
        came = sum(received_bytes(self._blobs, one.digest) for one in missing)
        room.require_room(sum(one.size_bytes for one in missing) - came, self._blobs.partial, action)

    def image(self, digest: Digest) -> Image:
        """Return an image. Raises ImageNotFound, or BlobDamaged when its manifest or configuration is."""
        if digest not in index.digests(self._index.read()):
            raise self._not_found(digest)
        return self._image(digest)

    def entered(self, digest: Digest) -> Image:
        """Return an image that was entered once, whatever the index says of it now. Raises BlobDamaged, StoreError."""
        return self._image(digest)

    def unknown(self, wanted: Collection[Digest]) -> frozenset[Digest]:
        """Return those of ``wanted`` that the index does not name. Raises StoreError."""
        return frozenset(wanted) - set(index.digests(self._index.read()))

    def find(self, word: str) -> Image:
        """Return the image that a person means by a tag, a digest, or at least 6 digits that a digest begins with.

        A tag goes before a digest. Raises ImageNotFound, also when several digests begin so.
        """
        descriptors = self._index.read()
        if tagged := index.tags(descriptors).get(word):
            return self._image(tagged)
        start = word.removeprefix("sha256:")
        found = [digest for digest in index.digests(descriptors) if digest.hex.startswith(start)]
        if len(start) < _PREFIX_LENGTH or not found:
            raise self._not_found(word)
        if len(found) > 1:
            raise ImageNotFound(
                f"cannot find image '{word}': several digests begin so",
                hint="use more digits: " + ", ".join(digest.short for digest in found[:_NAMED_IN_HINT]),
            )
        return self._image(found[0])

    def images(self) -> tuple[Image, ...]:
        """Return all images, the one that was stored last first. Raises BlobDamaged."""
        return tuple(self._image(digest) for digest in reversed(index.digests(self._index.read())))

    def digests(self) -> tuple[Digest, ...]:
        """Return the digests of all images, in the order in which they were entered. Reads no blob."""
        return index.digests(self._index.read())

    def tags(self) -> Mapping[str, Digest]:
        return index.tags(self._index.read())

    def tag(self, name: str, digest: Digest) -> None:
        """Give an image a tag; another image that had it loses it. Atomic and idempotent.

        Raises StoreError for what can't be a tag, ImageNotFound.
        """
        index.check_tag(name)
        with self._index.changed() as descriptors:
            if digest not in index.digests(descriptors):
                raise self._not_found(digest)
            index.give_tag(descriptors, name, digest)

    def enter_again(self, digest: Digest) -> bool:
        """Enter an image that the index lost while all its blobs are there; return whether it is in the index now."""
        with self._index.changed() as descriptors:
            if digest in index.digests(descriptors):
                return True
            try:
                data = self._blobs.read(digest)
                self._require(self._image(digest).layers)
            except (BlobDamaged, ValueError):
                return False
            index.enter(descriptors, manifest.descriptor(manifest.media_type(data), digest, len(data)))
        return True

    def remove(self, *gone: Digest) -> None:
        """Take images and their tags out of the index. Their blobs stay until ``collect``. Atomic and idempotent."""
        with self._index.changed() as descriptors:
            index.drop(descriptors, gone)

    def selection(self, keep: Collection[Digest]) -> Selection:
        """Return what a copy of the store has to have for the images in ``keep``: its index, and its blobs.

        Raises BlobDamaged for one that is not whole here.
        """
        from instar.store import selection

        return selection.select(self._blobs, self._index, frozenset(keep))

    def chunks(self, digest: Digest) -> Iterator[bytes]:
        """Yield a blob's bytes, and raise BlobDamaged at their end when they are not those of ``digest``."""
        return self._blobs.chunks(digest)

    def holds(self, layer: Layer) -> bool:
        """Whether the layer's blob is there with its size. Its bytes are not read: ``verify`` does that."""
        return self._blobs.holds(layer.digest, layer.size_bytes)

    def path(self, digest: Digest) -> Path:
        """Return where a blob is, or would be."""
        return self._blobs.path(digest)

    def verify(self, digest: Digest) -> None:
        """Read one blob and hash it. Raises BlobDamaged."""
        self._blobs.verify(digest)

    def unpack(self, layer: Layer, into: Path, *, limit_bytes: int = room.UNPACK_LIMIT_BYTES, copies: int = 1) -> None:
        """Make the tree of a layer, in overlay form, in ``into``, which is missing or empty. Needs root.

        Blob and tar are checked against ``digest`` and ``diff_id`` while they are read, and nothing in them is trusted.
        The root is 0755 and root's where the tar doesn't say. After an error ``into`` is not whole: remove it. A blob
        whose bytes are not its digest's is removed, so that the next bake makes it anew.

        Raises BlobDamaged, and StoreError for what is refused: a name or a link that leads out, a device, more than
        ``limit_bytes`` of tar, or than ``into`` has room for ``copies`` times.
        """
        from instar.store import layers

        try:
            layers.unpack(self._blobs, layer, into, limit_bytes=limit_bytes, copies=copies)
        except BlobDamaged as error:
            self._discard_damaged(layer.digest)
            raise BlobDamaged(error.message, hint="bake it again, which makes that layer anew: instar bake") from error

    def list_files(
        self,
        layers: Sequence[Layer],
        read: re.Pattern[bytes],
        *,
        others: re.Pattern[bytes] | None = None,
        beneath: Listing | None = None,
        look: Callable[[], None] = lambda: None,
    ) -> Listing:
        """Return what layers show over ``beneath``, by its paths; files that ``read`` matches have their content, and
        of the rest those are listed that ``others`` matches (None: all). ``look`` is called before each layer, and
        may raise.

        Raises BlobDamaged; StoreError for a layer that nothing here would unpack.
        """
        from instar.store import listing

        return listing.list_files(self._blobs, layers, read, beneath or {}, look, others=others or listing.ALL)

    def _discard_damaged(self, digest: Digest) -> None:
        try:
            self._blobs.verify(digest)
        except BlobDamaged:
            self._blobs.remove(digest)

    def collect(self, keep: Collection[Digest], *, dry_run: bool = False) -> Collected:
        """Remove images that aren't in ``keep``, blobs that no kept image needs, and what killed writers left.

        A digest in ``keep`` that is no image's keeps the blob of that digest (a layer that a cache wants). No bake
        may run at the same time. Raises BlobDamaged, before anything is removed, when a kept image's manifest is.
        """
        from instar.store import garbage

        return garbage.collect(self._blobs, self._index, frozenset(keep), dry_run=dry_run)

    def export(
        self, digest: Digest, file: Path, *, tag: str | None = None, compression: Literal["zstd", "gzip"] = "zstd"
    ) -> Digest:
        """Write an image to ``file`` as an oci-archive, whole or not at all; return the digest that it has there.

        As it is stored, with what is attached to it, the same image gives the same bytes and keeps its digest. ``gzip``
        is for tools that can't read zstd: a converted copy with the same configuration and diff IDs, but a digest of
        its own, which depends on this machine's zlib, and to which nothing is attached.
        """
        from instar.store import archive

        if tag is not None:
            index.check_tag(tag)
        image = self.image(digest)
        if compression == "gzip":
            return archive.export_gzip(self._blobs, image, file, tag=tag)
        archive.export(self._blobs, image, file, tag=tag, attached=self.attachments(digest))
        return digest

    def _image(self, digest: Digest) -> Image:
        data = self._blobs.read(digest)
        try:
            data = self.own_manifest(data)
            config_digest, *_ = manifest.references(data)
            return manifest.image(digest, data, self._blobs.read(config_digest))
        except ValueError as error:
            raise damaged(digest, str(error)) from error

    def _require(self, layers: Sequence[Layer]) -> None:
        for layer in layers:
            if not self.holds(layer):
                raise BlobDamaged(
                    f"cannot store an image: its layer '{layer.digest.short}' ({layer.step}) is missing or short",
                    hint="bake it again",
                )

    def _not_found(self, word: str) -> ImageNotFound:
        descriptors = self._index.read()
        there = [*index.tags(descriptors), *(digest.short for digest in reversed(index.digests(descriptors)))]
        more = " …" if len(there) > _NAMED_IN_HINT else ""
        return ImageNotFound(
            f"cannot find image '{word}': the store has no such image",
            hint=f"there are: {', '.join(there[:_NAMED_IN_HINT])}{more}" if there else "the store is empty: bake first",
        )


def _make_directories(root: Path) -> None:
    """Make ``root`` and what is missing above it, each for its owner alone."""
    missing = [path for path in (root, *root.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)
