"""What images stand on where that is an image itself: found for a lock, brought to the store, and baked for a bake.

An image of others is in the lock, by its digest. One of another definition is baked by that one's own lock; what it
gives is found out anew at each bake, so that a base that changed is another input.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from instar.bake import of_the_image
from instar.bake import plan as plan_bake
from instar.bake.image import environment
from instar.definition import Loaded
from instar.definition.author_files import reached_author_file
from instar.definition.base_definition import load_base
from instar.definition.parts import ImagePart, image_of, needed_parts_of, parts_of
from instar.definition.problems import listed
from instar.errors import (
    BlobDamaged,
    FetchError,
    HashMismatch,
    ImageNotFound,
    InstarError,
    LockError,
    LockStale,
    StoreError,
)
from instar.lock.fit import platforms_of
from instar.model.architectures import platform_of
from instar.model.base import OciBase, find_definition, find_oci
from instar.model.digest import Digest
from instar.model.image import Image
from instar.model.lock import BaseImage, Lock
from instar.model.progress import Progress
from instar.model.reference import Reference
from instar.operations.beneath import beneath_definition, image_beneath
from instar.operations.lock import lock_path, whole_lock
from instar.operations.locks import keep_from_gc
from instar.operations.workspace import Workspace
from instar.store.manifest import descriptors
from instar.store.platforms import is_index, own

if TYPE_CHECKING:
    from instar.lock.beneath import Beneath
    from instar.lock.part import FindBase
    from instar.store import Store

_SHOWN = 12
_MOVED = "the lock has another one: instar lock --update base takes it"


def base_finder(workspace: Workspace) -> FindBase:
    """Return what finds what a lock is to have of the images that others stand on: in the store, in an archive, in a
    registry, and by the locks of other definitions."""
    return _BaseFinder(workspace)


class _BaseFinder:
    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def __call__(self, part: ImagePart, wanted: OciBase, architecture: str, /) -> BaseImage:
        with _placed(part):
            if wanted.archive is not None:
                return _of_archive(self._workspace, part, wanted, architecture)
            if wanted.digest is not None and (found := _of_store(self._workspace, wanted.digest, architecture)):
                return found
            if wanted.repository is None:
                raise _nowhere(wanted.digest)
            return _of_registry(self._workspace, wanted, architecture)

    def beneath(self, part: ImagePart, base: BaseImage | None, architecture: str, /) -> Beneath:
        from instar.lock.beneath import for_part

        with _placed(part):
            return for_part(self._beneath(part, base, architecture, ()), part)

    def _beneath(
        self, part: ImagePart, base: BaseImage | None, architecture: str, above: tuple[Loaded, ...]
    ) -> Beneath:
        """Return what the image that a part stands on has, with what the definitions between put over it."""
        path, wanted = find_definition(part.made.base), find_oci(part.made.base)
        if path is not None:
            return self._of_definition(part, load_base(part, path, above), architecture, above)
        assert base is not None and wanted is not None  # a part of another base is not asked about
        return self._of_image(part, base)

    def _of_image(self, part: ImagePart, base: BaseImage) -> Beneath:
        return image_beneath(self._workspace, base, lambda store: _fetch_whole(self._workspace, store, part, base))

    def _of_definition(self, part: ImagePart, base: Loaded, architecture: str, above: tuple[Loaded, ...]) -> Beneath:
        lock, over = _lock_of_base(part, base, architecture), (*above, part.loaded)
        return beneath_definition(base, lock, lambda: self._beneath(image_of(base), lock.base, architecture, over))


def with_bases(workspace: Workspace, loaded: Loaded, lock: Lock, above: tuple[Loaded, ...] = ()) -> Lock:
    """Return the lock of a definition with what it stands on of other definitions, as far as that is baked.

    ``above`` are the definitions that stand on it. Nothing is written. Raises DefinitionError, LockError, BakeError.
    """
    locked = {part.stage: _with_base(workspace, part, lock.of(part.stage), above) for part in parts_of(loaded)}
    return replace(locked.pop(None), build={stage: one for stage, one in locked.items() if stage is not None})


def bring_bases(workspace: Workspace, loaded: Loaded, lock: Lock, bake: Callable[[Loaded, str], object]) -> Lock:
    """Have in the store what a definition stands on: images of others, pulled or taken from their archive, and those of
    other definitions, which ``bake`` bakes for an architecture. Return the lock as :func:`with_bases` does.

    Raises what a pull, an import and a bake raise.
    """
    lock = with_bases(workspace, loaded, lock)
    for part in needed_parts_of(loaded):
        locked, path = lock.of(part.stage), find_definition(part.made.base)
        if wanted := find_oci(part.made.base):
            with _placed(part):
                _bring(workspace, part, wanted, locked)
        elif path is not None and locked.base is not None and None in locked.base.layers:
            bake(load_base(part, path, ()), locked.architecture)
    return with_bases(workspace, loaded, lock)


def bring_stage_base(workspace: Workspace, part: ImagePart, lock: Lock) -> None:
    """Have in the store the image of others that a stage stands on. Raises as :func:`bring_bases` does."""
    if find_definition(part.made.base) is not None:
        raise LockError(
            f"{part.place('base')}: cannot run anything here while locking: it stands on another definition",
            hint="let this stage stand on a suite of Debian, or on an image of others",
        )
    if wanted := find_oci(part.made.base):
        with _placed(part):
            _bring(workspace, part, wanted, lock)


def _with_base(workspace: Workspace, part: ImagePart, lock: Lock, above: tuple[Loaded, ...]) -> Lock:
    path = find_definition(part.made.base)
    if path is None:
        return lock
    base = load_base(part, path, above)
    base_lock = with_bases(workspace, base, _lock_of_base(part, base, lock.architecture), (*above, part.loaded))
    planned = plan_bake(base, lock=base_lock, store=workspace.store, state=workspace.state)
    steps = planned.parts[-1].steps
    _require_same_beneath(workspace, part, lock, above)
    found = BaseImage(
        key=steps[-1].work.key,
        epoch=base_lock.epoch,
        env=environment(base.definition.image, base_lock),
        layers=tuple(step.layer for step in of_the_image(steps, lambda step: step.work.kind)),
    )
    return replace(lock, base=found)


def _require_same_beneath(workspace: Workspace, part: ImagePart, lock: Lock, above: tuple[Loaded, ...]) -> None:
    """Return when a base of another definition has installed what it had when the part was locked. Raises LockStale."""
    if lock.installed is None:
        return
    from instar.lock.beneath import for_part, moved

    try:
        now = for_part(_KnownBases(workspace)._beneath(part, None, lock.architecture, above), part)
    except _NotYet:
        return
    lines = list(moved(lock.installed, now.installed))
    if lines:
        more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        text = "\n".join((*lines[:_SHOWN], *more))
        raise LockStale(
            f"{part.place('base')}: cannot use '{lock_path(part.loaded).name}': its base has moved since\n{text}",
            hint=f"instar lock -f {part.loaded.file} resolves what moved and keeps the rest",
        )


class _NotYet(Exception):
    """What an image of others has installed is known when it was brought here."""


class _KnownBases(_BaseFinder):
    """The same without a network: what is not here is not known."""

    def _of_image(self, part: ImagePart, base: BaseImage) -> Beneath:
        if not all(layer is not None and self._workspace.store.holds(layer) for layer in base.layers):
            raise _NotYet
        return image_beneath(self._workspace, base, None)


def _lock_of_base(part: ImagePart, base: Loaded, architecture: str) -> Lock:
    try:
        whole = whole_lock(base)
    except LockError as error:
        error.message = f"{part.place('base')}: it stands on '{base.file}': {error.message}"
        error.hint = f"instar lock -f {base.file}"
        raise
    found = whole.find_platform(platform_of(architecture))
    if found is None:
        platform = platform_of(architecture)
        raise LockError(
            f"{part.place('base')}: it stands on '{base.file}', which is for {listed(platforms_of(base), 'and')}, and"
            f" not for {platform}",
            hint=f"add {platform} to 'image.platforms' there, then: instar lock -f {base.file}",
        )
    return found


@contextlib.contextmanager
def _placed(part: ImagePart) -> Iterator[None]:
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


def _of_store(workspace: Workspace, digest: Digest, architecture: str) -> BaseImage | None:
    store = _store_for(workspace, architecture)
    try:
        store.image(digest)
        return _read(workspace, store, store.manifest(digest), architecture)
    except (ImageNotFound, BlobDamaged):
        return None


def _store_for(workspace: Workspace, architecture: str) -> Store:
    """Return the store as a machine of an architecture has it: an image of several platforms is that one there."""
    return workspace.store.on(platform_of(architecture))


def _read(workspace: Workspace, store: Store, data: bytes, architecture: str) -> BaseImage:
    """Return what a lock holds of the image of a manifest; of several platforms, that of the store's."""
    manifest, index = _own(store, data)
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


def _own(store: Store, data: bytes) -> tuple[bytes, Digest | None]:
    """Return the manifest of the store's platform, and the digest of the index that it is of, if it is of one."""
    if not is_index(data):
        return data, None
    return store.manifest(own(data, store.platform).digest), Digest.of(data)


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
        store = _store_for(workspace, architecture)
        with keep_from_gc(workspace):
            data = _receive(store, part, wanted)
            found = _read(workspace, store, data, architecture)
            store.add_manifest(_own(store, data)[0])
            return found
    from instar.fetch.cache import Cache
    from instar.operations.lock import user_cache
    from instar.store import Store

    with Cache(user_cache()).workspace() as folder:
        store = Store(folder / "store", platform_of(architecture))
        return _read(workspace, store, _receive(store, part, wanted), architecture)


def _receive(store: Store, part: ImagePart, wanted: OciBase) -> bytes:
    archive, folder = wanted.archive or "", part.loaded.folder
    try:
        with reached_author_file(folder, archive) as path:
            return store.receive(path, wanted.digest, called=archive).manifest
    except OSError as error:
        raise StoreError(f"cannot import '{archive}': {(error.strerror or str(error)).lower()}") from error


def _bring(workspace: Workspace, part: ImagePart, wanted: OciBase, lock: Lock) -> None:
    """Have the image that the lock names in the store, whole, unpacked once and as the lock says that it is."""
    from instar.lock.base_image import require_same

    base, store = lock.base, _store_for(workspace, lock.architecture)
    assert base is not None and base.digest is not None  # a lock that is read has one where it is asked for
    image = _whole(workspace, base)
    if image is None:
        if wanted.repository is not None:
            workspace.registries.pull(workspace.store, Reference(repository=wanted.repository, digest=base.digest))
        elif wanted.archive is not None:
            manifest, index = _own(store, _receive(store, part, wanted))
            if Digest.of(manifest) != base.digest:
                raise HashMismatch(f"'{wanted.archive}' holds image {index or Digest.of(manifest)}", hint=_MOVED)
            store.add_manifest(manifest)
        else:
            raise _nowhere(base.digest)
        image = workspace.store.image(base.digest)
    require_same(base, image, lock_path(part.loaded).name)
    for layer in image.layers:
        if not workspace.layers.is_made(layer.diff_id):
            workspace.cancellation.check()
            workspace.layers.provide(layer)


def _fetch_whole(workspace: Workspace, store: Store, part: ImagePart, base: BaseImage) -> None:
    """Bring the layers of an image of others into a store, where it has not got them: a lock looks into them."""
    wanted = find_oci(part.made.base)
    assert wanted is not None and base.digest is not None
    if all(layer is not None and store.holds(layer) for layer in base.layers):
        return
    if wanted.archive is not None:
        _receive(store.on(base.platform), part, wanted)
        if not all(layer is not None and store.holds(layer) for layer in base.layers):
            raise HashMismatch(f"'{wanted.archive}' holds another image", hint=_MOVED)
    elif wanted.repository is not None:
        workspace.registries.pull(store, Reference(repository=wanted.repository, digest=base.digest))
    else:
        raise _nowhere(base.digest)


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


def _nowhere(digest: Digest | None) -> ImageNotFound:
    hint = "bring it there: instar import FILE, or instar pull HOST/PATH@DIGEST (as root, where root bakes)"
    return ImageNotFound(f"cannot find image '{digest}': the store has no such image", hint=hint)
