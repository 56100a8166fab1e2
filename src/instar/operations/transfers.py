"""``instar push`` and ``instar pull``: an image to a registry and from one, under the same digest."""

from __future__ import annotations

import time

from instar.errors import BlobDamaged, ImageNotFound
from instar.model.progress import Progress
from instar.model.reference import Reference, Repository
from instar.model.sizes import size_text
from instar.model.transfer import Transfer
from instar.operations.locks import keep_from_gc
from instar.operations.workspace import Workspace


def push(workspace: Workspace, word: str, to: Repository, *, tag: str | None = None) -> Transfer:
    """Bring the image that ``word`` means to a repository; only what that has not got is sent.

    Raises ImageNotFound, BlobDamaged, SourceUnreachable, FetchError, Cancelled.
    """
    with keep_from_gc(workspace):
        image = workspace.store.find(word)
        done = workspace.registries.push(workspace.store, image.digest, to, tag=tag)
    _tell(workspace, "push", done)
    return done


def pull(workspace: Workspace, what: Reference) -> Transfer:
    """Bring an image from a registry into the store; nobody is asked for one that is there, whole.

    It stays until the next gc unless a release comes to need it. Raises ImageNotFound, HashMismatch, SourceUnreachable,
    FetchError, StoreError, Cancelled.
    """
    with keep_from_gc(workspace):
        done = _there(workspace, what) or workspace.registries.pull(workspace.store, what)
    _tell(workspace, "pull", done)
    return done


def _there(workspace: Workspace, what: Reference) -> Transfer | None:
    began = time.monotonic()
    try:
        image = workspace.store.image(what.digest)
    except (ImageNotFound, BlobDamaged):
        return None
    if not all(workspace.store.holds(layer) for layer in image.layers):
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
    text = f"{moved if done.moved else 'everything was there'} · {done.seconds:.2f} s"
    workspace.report(Progress(stage=stage, text=text, aside=f"sha256:{done.digest.short}"))
