"""Images of others that something stands on: brought to a store from a registry or an archive, as the lock says."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from instar.definition.author_files import reached_author_file
from instar.definition.parts import ImagePart
from instar.errors import (
    BlobDamaged,
    FetchError,
    HashMismatch,
    ImageNotFound,
    InstarError,
    StoreError,
)
from instar.model.architectures import platform_of
from instar.model.base import OciBase, find_oci
from instar.model.digest import Digest
from instar.model.image import Image
from instar.model.lock import BaseImage, Lock
from instar.model.reference import Reference
from instar.operations.lock import lock_path
from instar.operations.workspace import Workspace
from instar.store.platforms import is_index, own

if TYPE_CHECKING:
    from instar.store import Store

_MOVED = "the lock has another one: instar lock --update base takes it"


@contextlib.contextmanager
def placed(part: ImagePart) -> Iterator[None]:
    """Have whatever goes wrong say where the definition asks for it."""
    try:
        yield
    except ValueError as error:
        raise FetchError(f"{part.place('base')}: cannot use it as a base: {error}") from error
    except InstarError as error:
        place = part.place("base")
        if not error.message.startswith(place):
            error.message = f"{place}: {error.message}"
        raise


def store_for(workspace: Workspace, architecture: str) -> Store:
    """Return the store as a machine of an architecture has it: an image of several platforms is that one there."""
    return workspace.store.on(platform_of(architecture))


def own_manifest(store: Store, data: bytes) -> tuple[bytes, Digest | None]:
    """Return the manifest of the store's platform, and the digest of the index that it is of, if it is of one."""
    if not is_index(data):
        return data, None
    return store.manifest(own(data, store.platform).digest), Digest.of(data)


def receive(store: Store, part: ImagePart, wanted: OciBase) -> bytes:
    archive, folder = wanted.archive or "", part.loaded.folder
    try:
        with reached_author_file(folder, archive) as path:
            return store.receive(path, wanted.digest, called=archive).manifest
    except OSError as error:
        raise StoreError(f"cannot import '{archive}': {(error.strerror or str(error)).lower()}") from error


def bring(workspace: Workspace, part: ImagePart, wanted: OciBase, lock: Lock) -> None:
    """Have the image that the lock names in the store, whole, unpacked once and as the lock says that it is."""
    from instar.lock.base_image import require_same

    base, store = lock.base, store_for(workspace, lock.architecture)
    assert base is not None and base.digest is not None  # a lock that is read has one where it is asked for
    image = _whole(workspace, base)
    if image is None:
        if wanted.repository is not None:
            workspace.registries.pull(workspace.store, Reference(repository=wanted.repository, digest=base.digest))
        elif wanted.archive is not None:
            manifest, index = own_manifest(store, receive(store, part, wanted))
            if Digest.of(manifest) != base.digest:
                raise HashMismatch(f"'{wanted.archive}' holds image {index or Digest.of(manifest)}", hint=_MOVED)
            store.add_manifest(manifest)
        else:
            raise nowhere(base.digest)
        image = workspace.store.image(base.digest)
    require_same(base, image, lock_path(part.loaded).name)
    for layer in image.layers:
        if not workspace.layers.is_made(layer.diff_id):
            workspace.cancellation.check()
            workspace.layers.provide(layer)


def fetch_whole(workspace: Workspace, store: Store, part: ImagePart, base: BaseImage) -> None:
    """Bring the layers of an image of others into a store, where it has not got them: a lock looks into them."""
    wanted = find_oci(part.made.base)
    assert wanted is not None and base.digest is not None
    if all(layer is not None and store.holds(layer) for layer in base.layers):
        return
    if wanted.archive is not None:
        receive(store.on(base.platform), part, wanted)
        if not all(layer is not None and store.holds(layer) for layer in base.layers):
            raise HashMismatch(f"'{wanted.archive}' holds another image", hint=_MOVED)
    elif wanted.repository is not None:
        workspace.registries.pull(store, Reference(repository=wanted.repository, digest=base.digest))
    else:
        raise nowhere(base.digest)


def _whole(workspace: Workspace, base: BaseImage) -> Image | None:
    """Return the image if it, or the index that it is of, is in the store, and all of it is there."""
    known = {base.digest, base.index} & set(workspace.store.digests())
    if not known or base.digest is None:
        return None
    try:
        image = workspace.store.entered(base.digest)
    except BlobDamaged:
        return None
    return image if all(map(workspace.store.holds, image.layers)) else None


def nowhere(digest: Digest | None) -> ImageNotFound:
    hint = "bring it there: instar import FILE, or instar pull HOST/PATH@DIGEST (as root, where root bakes)"
    return ImageNotFound(f"cannot find image '{digest}': the store has no such image", hint=hint)
