"""``instar push`` and ``instar pull``: an image to a registry and from one, under the same digest.

And the pull of what a release is to be of, where this machine has not got it and the definition names a registry.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from instar.errors import BlobDamaged, EnvironmentBusy, FetchError, ImageNotFound, LedgerError
from instar.model.digest import Digest
from instar.model.held import holder_of, tag_of
from instar.model.progress import Progress
from instar.model.reference import Reference, Repository, repository
from instar.model.sizes import size_text
from instar.model.transfer import Transfer
from instar.operations.locks import keep_from_gc
from instar.operations.privilege import require_root
from instar.operations.workspace import Workspace

if TYPE_CHECKING:
    from instar.definition import Loaded
    from instar.model.image import Image


def push(workspace: Workspace, word: str, to: Repository, *, tag: str | None = None) -> Transfer:
    """Bring the image that ``word`` means to a repository; only what that has not got is sent.

    It gets ``tag`` there, and one of its own digest's for this machine's ledger, which stays when the other moves on to
    a newer image: many registries clear away what has none. Raises ImageNotFound, BlobDamaged, SourceUnreachable,
    FetchError, Cancelled.
    """
    with keep_from_gc(workspace):
        image = workspace.store.find(word)
        tags = (tag_of(image.digest, _holder(workspace)), *([tag] if tag else []))
        done = workspace.registries.push(workspace.store, image.digest, to, tags=tags)
    _tell(workspace, "push", done)
    return done


def pull(workspace: Workspace, what: Reference, *, every_platform: bool = False) -> Transfer:
    """Bring an image from a registry into the store; nobody is asked for one that is there, whole.

    Of one for several platforms, what is for this machine's, or for ``every_platform``.

    It stays until the next gc unless a release comes to need it. Raises ImageNotFound, HashMismatch, SourceUnreachable,
    FetchError, StoreError, Cancelled.
    """
    with keep_from_gc(workspace):
        done = None if every_platform else _there(workspace, what)
        done = done or workspace.registries.pull(workspace.store, what, every_platform=every_platform)
        _tell_architecture(workspace, workspace.store.image(what.digest))
    _tell(workspace, "pull", done)
    return done


def import_image(workspace: Workspace, path: Path, which: str | None = None) -> Image:
    """Bring an image that others have written to a file or a folder into the store; ``which`` of several, by a name or
    a digest that it has there.

    Its layers are unpacked, as safely as any, before the image is one. Raises NotRoot, StoreError, HostError,
    Cancelled.
    """
    require_root("import", "it unpacks layers, with the owners of their files")
    began = time.monotonic()
    with keep_from_gc(workspace):
        data, attached = workspace.store.receive(path, which)
        for layer in workspace.store.layers_of(data):
            workspace.cancellation.check()
            workspace.layers.provide(layer)
        image = workspace.store.add_manifest(data)
        workspace.store.attach(image.digest, attached)
    _tell_architecture(workspace, image)
    text = f"{len(image.layers)} layers · {size_text(image.size_bytes)} · {time.monotonic() - began:.2f} s"
    workspace.report(Progress(stage="import", text=text, aside=f"sha256:{image.digest.short}"))
    return image


def image_for_release(workspace: Workspace, loaded: Loaded, word: str, *, made_on: str | None = None) -> Image:
    """Return the image that ``word`` means, pulled if it is a digest that is not here, from the definition's registry.

    The caller keeps gc away. ``made_on``: the machine that is known to have it. Raises ImageNotFound, and what a pull
    does.
    """
    what = _to_pull(workspace, loaded, word, made_on)
    if what is None:
        return workspace.store.find(word)
    try:
        _tell(workspace, "pull", workspace.registries.pull(workspace.store, what))
    except ImageNotFound as error:
        raise _nowhere(error.message, what, made_on) from error
    _hold(workspace, what)
    return workspace.store.image(what.digest)


def digest_for_release(
    workspace: Workspace, loaded: Loaded, word: str, *, made_on: str | None = None
) -> tuple[Digest, Repository | None]:
    """Return which image ``word`` means, and where :func:`image_for_release` would pull it from, None: it is here.

    Raises what that would, as far as a question to the registry tells.
    """
    what = _to_pull(workspace, loaded, word, made_on)
    if what is None:
        return workspace.store.find(word).digest, None
    if not workspace.registries.has(what):
        raise _nowhere(f"cannot find image '{what.digest}': neither here nor in '{what.repository}'", what, made_on)
    return what.digest, what.repository


def _hold(workspace: Workspace, what: Reference) -> None:
    """Tag an image that was pulled for a release, for this machine's ledger, where that may write to the registry."""
    holder = _holder(workspace)
    if not holder:
        return
    tag = tag_of(what.digest, holder)
    tags = workspace.registries.tags(what.repository, actions="pull,push")
    try:
        if tags.find_digest(tag) != what.digest:
            tags.put(tag, what.digest)
    except (FetchError, ImageNotFound) as error:
        text = f"the image is not held in '{what.repository}', and may be cleared away there: {error.message}"
        workspace.report(Progress(stage="note", text=text, kind="warning"))


def _holder(workspace: Workspace) -> str:
    """Return for whom an image is held in a registry; "" where this machine's ledger is empty, or cannot be asked."""
    try:
        return holder_of(workspace.ledger.identity()) if workspace.has_ledger else ""
    except (LedgerError, EnvironmentBusy) as error:
        text = f"the image's tag does not say for which ledger it is held: {error.message}"
        workspace.report(Progress(stage="note", text=text, kind="warning"))
        return ""


def _to_pull(workspace: Workspace, loaded: Loaded, word: str, made_on: str | None) -> Reference | None:
    """Return what to pull to have the image that ``word`` means; None where nothing is, or it is no digest."""
    try:
        digest = Digest(word)
    except ValueError:
        return None
    try:
        image = workspace.store.image(digest)
    except BlobDamaged:
        if loaded.definition.registry is None:
            raise
        return Reference(repository=repository(loaded.definition.registry), digest=digest)
    except ImageNotFound as error:
        if loaded.definition.registry is not None:
            return Reference(repository=repository(loaded.definition.registry), digest=digest)
        if made_on is None:
            raise
        ways = "the same definition and lock, baked here, are the same bytes: instar bake; or give the definition a"
        raise ImageNotFound(
            error.message, hint=f"it is on {made_on}; {ways} 'registry', and push it from there: instar push"
        ) from error
    if loaded.definition.registry is None or all(map(workspace.store.holds, image.layers)):
        return None
    return Reference(repository=repository(loaded.definition.registry), digest=digest)


def _nowhere(message: str, what: Reference, made_on: str | None) -> ImageNotFound:
    """Return the error for an image that its registry has not got, with how it gets there."""
    return ImageNotFound(message, hint=f"on {made_on or 'the machine that has it'}: instar push {what.digest.short}")


def _there(workspace: Workspace, what: Reference) -> Transfer | None:
    began = time.monotonic()
    try:
        image = workspace.store.image(what.digest)
    except (ImageNotFound, BlobDamaged):
        return None
    if not all(workspace.store.holds_sound(layer.digest, layer.size_bytes) for layer in image.layers):
        return None
    return Transfer(
        repository=what.repository,
        digest=what.digest,
        blobs=len({layer.digest for layer in image.layers}) + 1,
        size_bytes=image.size_bytes,
        moved=0,
        moved_bytes=0,
        seconds=time.monotonic() - began,
    )


def _tell(workspace: Workspace, stage: str, done: Transfer) -> None:
    moved = f"{done.moved} of {done.blobs} blobs · {size_text(done.moved_bytes)}"
    attached = f" · {done.attachments} attached" if done.attachments else ""
    text = f"{moved if done.moved else 'everything was there'}{attached} · {done.seconds:.2f} s"
    workspace.report(Progress(stage=stage, text=text, aside=f"sha256:{done.digest.short}"))


def _tell_architecture(workspace: Workspace, image: Image) -> None:
    """Warn of an image that cannot run here."""
    here = workspace.store.platform.partition("/")[2]
    if image.config.architecture != here:
        text = f"the image is for {image.config.architecture:.40}, and this machine is {here}: it does not run here"
        workspace.report(Progress(stage="note", text=text, kind="warning"))
