"""What a lock is to have of the images that others stand on: found in the store, in an archive, in a registry, and by
the locks of other definitions."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from instar.definition import Loaded
from instar.definition.base_definition import load_base
from instar.definition.parts import ImagePart, image_of
from instar.definition.problems import listed
from instar.errors import BlobDamaged, ImageNotFound, LockError
from instar.lock.fit import platforms_of
from instar.model.architectures import platform_of
from instar.model.base import OciBase, find_definition, find_oci
from instar.model.digest import Digest
from instar.model.lock import BaseImage, Lock
from instar.model.progress import Progress
from instar.operations.beneath import beneath_definition, image_beneath
from instar.operations.lock import whole_lock
from instar.operations.locks import keep_from_gc
from instar.operations.oci_bases import fetch_whole, nowhere, own_manifest, placed, receive, store_for
from instar.operations.workspace import Workspace
from instar.store.manifest import descriptors

if TYPE_CHECKING:
    from instar.lock.beneath import Beneath
    from instar.lock.part import FindBase
    from instar.store import Store


def base_finder(workspace: Workspace) -> FindBase:
    """Return what finds what a lock is to have of the images that others stand on: in the store, in an archive, in a
    registry, and by the locks of other definitions."""
    return BaseFinder(workspace)


class BaseFinder:
    """Implements instar.lock.part.FindBase."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def __call__(self, part: ImagePart, wanted: OciBase, architecture: str, /) -> BaseImage:
        with placed(part):
            if wanted.archive is not None:
                return _of_archive(self._workspace, part, wanted, architecture)
            if wanted.digest is not None and (found := _of_store(self._workspace, wanted.digest, architecture)):
                return found
            if wanted.repository is None:
                raise nowhere(wanted.digest)
            return _of_registry(self._workspace, wanted, architecture)

    def beneath(self, part: ImagePart, base: BaseImage | None, architecture: str, /) -> Beneath:
        from instar.lock.beneath import for_part

        with placed(part):
            return for_part(self.whole_beneath(part, base, architecture, ()), part)

    def whole_beneath(
        self, part: ImagePart, base: BaseImage | None, architecture: str, above: tuple[Loaded, ...]
    ) -> Beneath:
        """Return what the image that a part stands on has, with what the definitions between put over it."""
        path, wanted = find_definition(part.made.base), find_oci(part.made.base)
        if path is not None:
            return self._of_definition(part, load_base(part, path, above), architecture, above)
        assert base is not None and wanted is not None  # a part of another base is not asked about
        return self._of_image(part, base)

    def _of_image(self, part: ImagePart, base: BaseImage) -> Beneath:
        return image_beneath(self._workspace, base, lambda store: fetch_whole(self._workspace, store, part, base))

    def _of_definition(self, part: ImagePart, base: Loaded, architecture: str, above: tuple[Loaded, ...]) -> Beneath:
        lock, over = lock_of_base(part, base, architecture), (*above, part.loaded)
        return beneath_definition(base, lock, lambda: self.whole_beneath(image_of(base), lock.base, architecture, over))


class NotYet(Exception):
    """What an image of others has installed is known once it was brought here."""


class KnownBases(BaseFinder):
    """The same without a network: what is not here is not known."""

    def _of_image(self, part: ImagePart, base: BaseImage) -> Beneath:
        if not all(layer is not None and self._workspace.store.holds(layer) for layer in base.layers):
            raise NotYet
        return image_beneath(self._workspace, base, None)


def lock_of_base(part: ImagePart, base: Loaded, architecture: str) -> Lock:
    """Return the lock of a definition that a part stands on, of an architecture. Raises LockError."""
    try:
        whole = whole_lock(base)
    except LockError as error:
        error.message = f"{part.place('base')}: it stands on '{base.file}': {error.message}"
        error.hint = f"instar lock -f {base.file}"
        raise
    platform = platform_of(architecture)
    found = whole.find_platform(platform)
    if found is None:
        raise LockError(
            f"{part.place('base')}: it stands on '{base.file}', which is for {listed(platforms_of(base), 'and')}, and"
            f" not for {platform}",
            hint=f"add {platform} to 'image.platforms' there, then: instar lock -f {base.file}",
        )
    return found


def _of_store(workspace: Workspace, digest: Digest, architecture: str) -> BaseImage | None:
    store = store_for(workspace, architecture)
    try:
        store.image(digest)
        return _read(workspace, store, store.manifest(digest), architecture)
    except (ImageNotFound, BlobDamaged):
        return None


def _read(workspace: Workspace, store: Store, data: bytes, architecture: str) -> BaseImage:
    """Return what a lock holds of the image of a manifest; of several platforms, that of the store's."""
    manifest, index = own_manifest(store, data)
    config, *_ = descriptors(manifest)
    return _described(workspace, manifest, store.manifest(config.digest), index, architecture)


def _described(
    workspace: Workspace, manifest: bytes, config: bytes, index: Digest | None, architecture: str
) -> BaseImage:
    """Return what a lock holds of an image, and say what it has that nothing takes over."""
    from instar.lock.base_image import base_image, left_behind

    found = base_image(manifest, config, index, architecture)
    if text := left_behind(config):
        workspace.report(Progress(stage="lock", text=f"base · {text}"))
    return found


def _of_registry(workspace: Workspace, wanted: OciBase, architecture: str) -> BaseImage:
    assert wanted.repository is not None  # whoever asks has looked
    looked = workspace.registries.look(wanted.repository, wanted.digest or wanted.tag or "", architecture)
    found = _described(workspace, looked.manifest, looked.config, looked.index, architecture)
    text = f"base {wanted.repository} · {len(found.layers)} layers"
    workspace.report(Progress(stage="lock", text=text, aside=f"sha256:{Digest(found.key).short}"))
    return found


def _of_archive(workspace: Workspace, part: ImagePart, wanted: OciBase, architecture: str) -> BaseImage:
    """Return the image in an archive. Root's store keeps it; without root it is unpacked for a look alone."""
    if os.geteuid() == 0:
        store = store_for(workspace, architecture)
        with keep_from_gc(workspace):
            data = receive(store, part, wanted)
            found = _read(workspace, store, data, architecture)
            store.add_manifest(own_manifest(store, data)[0])
            return found
    from instar.fetch.cache import Cache
    from instar.operations.lock import user_cache
    from instar.store import Store

    with Cache(user_cache()).workspace() as folder:
        store = Store(folder / "store", platform_of(architecture))
        return _read(workspace, store, receive(store, part, wanted), architecture)
