"""The store's layers as they are mounted on this machine, where something can mount them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Protocol

from instar.model.digest import Digest
from instar.model.image import Layer


class MountableLayers(Protocol):
    """One image of a file system for each layer, made from its blob, and mounted once for all who stand on it."""

    def provide(self, layer: Layer, tree: Path | None = None) -> Path:
        """Return the image of ``layer``; make it first where there is none.

        It is made of ``tree``, which must be the layer in overlay's form, when that is given, else of the store's blob.
        Raises HostError, BlobDamaged.
        """

    def mount(self, layer: Layer) -> Path:
        """Return where ``layer`` is mounted; mount it first where it isn't. Raises HostError, BlobDamaged."""

    def examine(self, diff_id: Digest, *, deep: bool = False) -> str | None:
        """Say what is wrong with a layer's image or its mount; None when nothing is.

        Its bytes are hashed when they were not since the boot, when the file is not the same any more (size, inode,
        times), or when ``deep``.
        """

    def is_made(self, diff_id: Digest) -> bool:
        """Tell whether there is an image of the layer."""

    def is_immutable(self, diff_id: Digest) -> bool:
        """Tell whether the file system refuses every write to the layer's image (``chattr +i``)."""

    def is_verified(self, diff_id: Digest) -> bool:
        """Tell whether the kernel checks every block of the layer's image as it reads it (dm-verity)."""

    def unmount_all(self) -> None:
        """Unmount every layer. Raises HostError."""

    def prune(self, keep: Collection[Digest], in_use: Callable[[], Collection[Digest]]) -> int:
        """Unmount every layer that is not in use, and remove its image if it need not be kept either.

        ``in_use`` is asked when nobody can begin to use one any more. Returns the bytes given back. Raises HostError.
        """
