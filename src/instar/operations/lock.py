"""``instar lock``: every outside input of a definition, resolved to exact hashes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from instar.definition import Loaded
from instar.definition.author_files import has_author_file
from instar.definition.base_definition import require_bases
from instar.definition.parts import unneeded_stages
from instar.errors import LockMissing, Refused
from instar.model.digest import Digest
from instar.model.lock import Lock, Locked
from instar.model.progress import Progress, Report
from instar.model.state import StateDirectory

if TYPE_CHECKING:
    from instar.ecosystems.protocol import OpenSandbox
    from instar.lock.part import FindBase


def lock_path(loaded: Loaded) -> Path:
    """Return where the definition's lock is: beside it, named after it (instar.yaml → instar.lock)."""
    return loaded.folder / Path(loaded.file).with_suffix(".lock").name


def is_locked(loaded: Loaded) -> bool:
    """Tell whether there is anything where the definition's lock is; reading it says whether that is one."""
    path = lock_path(loaded)
    return has_author_file(path.parent, path.name)


def user_cache() -> Path:
    """Return where a lock that needs no root keeps what it looked up."""
    if os.geteuid() == 0 or "INSTAR_HOME" in os.environ:
        return StateDirectory.from_environment(os.environ).cache
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "instar"


def lock(
    loaded: Loaded,
    *,
    cache: Path,
    report: Report,
    update: frozenset[str] | Literal["all"] | None = None,
    find_base: FindBase | None = None,
    open_sandbox: OpenSandbox | None = None,
) -> Locked:
    """Resolve what isn't locked yet, and what ``update`` names; write the lock when it changed.

    Where the cache is root's, gc learns what the lock needs.
    """
    from instar.lock.changes import changes
    from instar.lock.file import read, write
    from instar.lock.resolve import resolve

    require_bases(loaded)
    path = lock_path(loaded)
    for text in unneeded_stages(loaded):
        report(Progress(stage="lock", text=text, kind="warning"))
    previous = read(path) if is_locked(loaded) else None
    resolved = resolve(
        loaded, cache, previous=previous, update=update, report=report, find_base=find_base, open_sandbox=open_sandbox
    )
    if resolved != previous:
        write(path, resolved)
    if os.geteuid() == 0:
        note_needs(cache, loaded, resolved)
    lines = tuple(str(change) for change in changes(previous, resolved)) if previous else ()
    if previous and previous.bake_format != resolved.bake_format:
        lines = (f"  bake format {previous.bake_format} → {resolved.bake_format}", *lines)
    return Locked(lock=resolved, path=path, changes=lines, changed=resolved != previous)


def check(
    loaded: Loaded,
    *,
    cache: Path,
    report: Report,
    update: frozenset[str] | Literal["all"] | None = None,
    find_base: FindBase | None = None,
    open_sandbox: OpenSandbox | None = None,
) -> tuple[str, ...]:
    """Resolve everything anew, and return what differs from the lock, in lines for people; nothing is written.

    The locked versions are kept as far as the archives have them, except what ``update`` names. So what differs is what
    the lock should not have, what it lacks, and what it says otherwise than the archives do.

    Raises LockMissing, LockError, ResolveError, SourceUnreachable.
    """
    from instar.lock.changes import differences
    from instar.lock.file import read
    from instar.lock.resolve import resolve

    require_bases(loaded)
    path = lock_path(loaded)
    if not is_locked(loaded):
        raise _not_locked(path)
    locked = read(path)
    now = resolve(
        loaded,
        cache,
        previous=locked,
        update=update,
        report=report,
        anew=True,
        find_base=find_base,
        open_sandbox=open_sandbox,
    )
    return differences(locked, now)


def note_needs(cache: Path, loaded: Loaded, lock: Lock) -> tuple[Digest, ...]:
    """Write down, for gc, that this is the newest lock of its service; return the files that it needs."""
    from instar.fetch.fetch import inputs
    from instar.fetch.needs import Needs

    locks = [each for one in lock.whole for each in (one, *one.build.values())]
    bases = {locked.base.digest for locked in locks if locked.base and locked.base.digest}
    needed = (*inputs(lock, loaded.definition), *sorted(bases))
    Needs(cache).write(f"service-{loaded.definition.name}", needed)
    return needed


def existing_lock(loaded: Loaded, platform: str | None = None) -> Lock:
    """Return what is locked for one platform, this machine's unless it is said. Raises what :func:`whole_lock` does,
    and Refused where the definition is for other platforms."""
    return lock_of(loaded, whole_lock(loaded), platform)


def lock_of(loaded: Loaded, whole: Lock, platform: str | None = None) -> Lock:
    """Return of a definition's ``whole`` lock what is for one platform, this machine's unless it is said."""
    from instar.lock.fit import host_architecture, platforms_of
    from instar.model.architectures import platform_of

    here = platform_of(host_architecture())
    found = whole.find_platform(platform or here)
    if found is not None:
        return found
    known = platforms_of(loaded)
    where = loaded.places.place_text("image", "platforms")
    raise Refused(
        f"{where}: cannot bake '{loaded.definition.name}' for {platform or here}: it is for {', '.join(known)}",
        hint=f"instar bake --platform {known[0]}; or add {platform or here} to image.platforms, then: instar lock",
    )


def whole_lock(loaded: Loaded) -> Lock:
    """Return the lock of a definition. Raises LockMissing when there is none, LockStale when it doesn't fit."""
    from instar.lock.file import read
    from instar.lock.fit import require_fit

    path = lock_path(loaded)
    if not is_locked(loaded):
        raise _not_locked(path)
    found = read(path)
    require_fit(found, loaded)
    return found


def _not_locked(path: Path) -> LockMissing:
    return LockMissing(f"cannot find '{path.name}': this definition is not locked yet", hint="instar lock")


def fitting_lock(
    loaded: Loaded,
    *,
    cache: Path,
    report: Report,
    find_base: FindBase | None = None,
    open_sandbox: OpenSandbox | None = None,
) -> Lock:
    """Return the lock of a definition, making it only when there is none. Raises LockStale when it doesn't fit."""
    if not is_locked(loaded):
        return lock(loaded, cache=cache, report=report, find_base=find_base, open_sandbox=open_sandbox).lock
    return whole_lock(loaded)
