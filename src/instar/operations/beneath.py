"""What bases have installed, for locks of what stands on them: looked for in layers once, and remembered.

CACHE/installed/HEX.json    by the digest of an image of others: what its layers say. Made anew where it is missing.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instar import durable
from instar.definition import Loaded
from instar.errors import FetchError, ResolveError
from instar.fetch.cache import Cache
from instar.model.architectures import architecture_of
from instar.model.base import find_definition, is_debian
from instar.model.codec import canonical
from instar.model.digest import Digest
from instar.model.lock import BaseImage, Installed, Lock
from instar.model.progress import Progress
from instar.model.slim import AT_THE_END
from instar.operations.lock import user_cache
from instar.operations.locks import keep_from_gc
from instar.operations.workspace import Workspace
from instar.store import Store

if TYPE_CHECKING:
    from instar.lock.beneath import Beneath

_VERSION = 1  # of what is remembered


def beneath_definition(base: Loaded, lock: Lock, below: Callable[[], Beneath]) -> Beneath:
    """Return what the image of a definition has by its lock; ``below`` gives what that one stands on. Raises
    ResolveError."""
    from instar.lock.beneath import Beneath, with_locked

    image = base.definition.image
    if is_debian(image.base):
        found = with_locked(Beneath(installed=Installed(release=image.base, packages=())), lock.packages)
    elif lock.base is not None or find_definition(image.base) is not None:
        found = with_locked(below(), lock.packages)
    else:
        raise ResolveError(f"'{base.file}' stands on '{image.base}', and has no packages of Debian that others go with")
    left = (
        "slim" if image.slim is not None else next((f"strip: [{one}]" for one in AT_THE_END if one in image.strip), "")
    )
    if left:
        unfit = f"'{base.file}' says '{left}', which leaves too little to install with"
        return Beneath(installed=found.installed, controls=found.controls, locked=found.locked, unfit=unfit)
    return found


def image_beneath(workspace: Workspace, base: BaseImage, bring: Callable[[Store], None] | None) -> Beneath:
    """Return what an image of others has, by its layers, which ``bring`` brings to a store: root's own, or one for the
    moment; None: they are in root's.

    Raises FetchError where that is nothing to go by, and what ``bring`` raises.
    """
    cache = Cache(workspace.state.cache if os.geteuid() == 0 else user_cache())
    file = cache.folder("installed") / f"{Digest(base.key).hex}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return _remembered(json.loads(durable.read(file)))
    if bring is None:
        found = _look(workspace, workspace.store, base)
    elif os.geteuid() == 0:
        with keep_from_gc(workspace):
            bring(workspace.store)
            found = _look(workspace, workspace.store, base)
    else:
        with cache.workspace() as folder:
            store = Store(folder / "store")
            bring(store)
            found = _look(workspace, store, base)
    _remember(file, found)
    return found


def _look(workspace: Workspace, store: Store, base: BaseImage) -> Beneath:
    from instar.lock.beneath import PROGRAMS, WANTED, of_image
    from instar.model.dpkg_status import WrongStatus

    workspace.report(Progress(stage="lock", text="base · looking for what is installed", kind="running"))
    seen = store.list_files([layer for layer in base.layers if layer is not None], WANTED, others=PROGRAMS)
    try:
        found = of_image(seen, base.env, architecture_of(base.platform))
    except WrongStatus as error:
        raise FetchError(
            f"cannot install anything over image '{Digest(base.key).short}': {error}",
            hint="'packages', 'python', 'archives' and 'strip' need a base of Debian or Ubuntu that is whole",
        ) from error
    text = f"base · {found.installed.release} · {len(found.installed.packages)} packages installed"
    workspace.report(Progress(stage="lock", text=text))
    return found


def _remember(file: Path, found: Beneath) -> None:
    data = {
        "version": _VERSION,
        "release": found.installed.release,
        "python": found.installed.python,
        "unfit": found.unfit,
        "controls": {name: dict(control) for name, control in found.controls.items()},
    }
    durable.write(file, canonical(data), mode=0o600)


def _remembered(data: Any) -> Beneath:
    from instar.lock.beneath import Beneath
    from instar.model.dpkg_status import packages_of

    if data["version"] != _VERSION:
        raise ValueError(data["version"])
    packages = packages_of(data["controls"])
    installed = Installed(release=data["release"], packages=packages, python=data["python"])
    return Beneath(installed=installed, controls=data["controls"], unfit=data["unfit"])
