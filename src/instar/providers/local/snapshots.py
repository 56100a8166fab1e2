"""What volumes held at a time, beside them on this machine: by reflinks where the file system has them, else by copies.

SNAPSHOTS/SERVICE/ENVIRONMENT/VOLUME/NUMBER is one: ``data``, the folder as it was, and ``about.json``, when that was,
and for which rollout. ``.last`` beside it is the highest number that was given: it stays when all are removed, so that
none is given again. ``.making`` is being made or removed, or was by one who was killed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from instar import durable, process
from instar.errors import HostError, NotFound, Refused
from instar.host.filesystems import sized, trees
from instar.host.filesystems.copying import Copying, failed
from instar.host.kernel import idmap
from instar.model.codec import from_json, to_json
from instar.model.release import EnvironmentId
from instar.model.volume import SnapshotCause, VolumeSnapshot
from instar.providers.local import volumes
from instar.providers.local.names import Names

_TIMEOUT_S = 6 * 3_600.0
_MAKING = ".making"
_LAST = ".last"
_FICLONE = 0x4004_9409  # Source: ioctl_ficlonerange(2)


class LocalSnapshots:
    """Implements providers.facets.Snapshots."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def snapshots(self, environment: EnvironmentId | None = None) -> Iterator[VolumeSnapshot]:
        wanted = "*/*/*" if environment is None else f"{environment.service}/{environment.name}/*"
        for folder in sorted(self._names.state.snapshots.glob(wanted)):
            found = EnvironmentId(service=folder.parents[1].name, name=folder.parent.name)
            for number in _numbers(folder):
                yield _read(found, folder.name, number, folder / str(number))

    @contextlib.contextmanager
    def shown(self, environment: EnvironmentId, name: str) -> Iterator[Path]:
        folder = self._volume(environment, name, "read")
        with _shown(folder):
            yield folder

    def copied_bytes(self, environment: EnvironmentId, name: str) -> int | None:
        folder, kept = self._volume(environment, name, "keep"), self._names.snapshots(environment, name)
        kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _shown(folder):
            return _copied_bytes(folder, kept)

    def free_bytes(self) -> int:
        return _free_bytes(self._names.state.root)

    def take_snapshot(
        self, environment: EnvironmentId, name: str, *, running: bool, cause: SnapshotCause | None = None
    ) -> VolumeSnapshot:
        folder, kept = self._volume(environment, name, "keep"), self._names.snapshots(environment, name)
        try:
            kept.mkdir(mode=0o700, parents=True, exist_ok=True)
            return self._taken(environment, name, folder, kept, running=running, cause=cause)
        except OSError as error:
            raise _refused(f"cannot keep what '{folder}' holds", error, kept) from error

    def _taken(
        self,
        environment: EnvironmentId,
        name: str,
        folder: Path,
        kept: Path,
        *,
        running: bool,
        cause: SnapshotCause | None,
    ) -> VolumeSnapshot:
        number = _last_number(kept) + 1
        making = kept / _MAKING
        trees.remove(making)
        making.mkdir(mode=0o700)
        at = datetime.now(UTC)
        try:
            with _shown(folder):
                _copy(folder, making / "data", may_change=running)
            about = {
                "format": 1,
                "at": at.isoformat(),
                "running": running,
                "bytes": volumes.used_bytes(making / "data"),
                **({"cause": to_json(cause)} if cause is not None else {}),
            }
            durable.write(making / "about.json", json.dumps(about).encode())
            durable.write(kept / _LAST, str(number).encode())
            durable.move(making, kept / str(number))
        finally:
            trees.remove(making)
        return _read(environment, name, number, kept / str(number))

    def restore_snapshot(self, environment: EnvironmentId, name: str, number: int) -> None:
        data = self._snapshot(environment, name, number) / "data"
        self._fill(data, self._names.volumes(environment) / name, may_change=False)

    def remove_snapshot(self, environment: EnvironmentId, name: str, number: int) -> None:
        folder = self._snapshot(environment, name, number)
        going, last = folder.with_name(_MAKING), _last_number(folder.parent)
        trees.remove(going)
        durable.write(folder.with_name(_LAST), str(last).encode())
        folder.rename(going)
        trees.remove(going)

    def copy_volume(self, source: EnvironmentId, name: str, to: EnvironmentId, as_name: str) -> None:
        folder, made = self._volume(source, name, "copy"), self._names.volumes(to) / as_name
        if as_name in sized.names(made.parent):
            raise Refused(
                f"cannot copy to the volume '{as_name}' of '{to}': there is one",
                hint=f"instar volumes remove {to} {as_name}; what it holds is gone then, unless a snapshot has it",
            )
        with _shown(folder):
            self._fill(folder, made, may_change=True)

    def _fill(self, source: Path, folder: Path, *, may_change: bool) -> None:
        try:
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with sized.replaced(folder) as new:
                _copy(source, new, may_change=may_change)
        except OSError as error:
            raise _refused(f"cannot fill '{folder}'", error, folder.parent) from error

    def _volume(self, environment: EnvironmentId, name: str, verb: str) -> Path:
        folder = self._names.volumes(environment) / name
        if name not in sized.names(folder.parent):
            raise NotFound(
                f"cannot {verb} the volume '{name}' of '{environment}': there is none",
                hint="those that there are: instar volumes",
            )
        return folder

    def _snapshot(self, environment: EnvironmentId, name: str, number: int) -> Path:
        kept = self._names.snapshots(environment, name)
        numbers = _numbers(kept) if "/" not in name else []
        if number not in numbers:
            known = ", ".join(map(str, numbers)) or "none"
            raise NotFound(
                f"cannot find snapshot {number} of the volume '{name}' of '{environment}'", hint=f"there is: {known}"
            )
        return kept / str(number)


def _numbers(kept: Path) -> list[int]:
    """Return the snapshots that are whole, the oldest first."""
    found = kept.iterdir() if kept.is_dir() else ()
    return sorted(int(path.name) for path in found if path.name.isdecimal() and (path / "about.json").exists())


def _last_number(kept: Path) -> int:
    """Return the highest number that was ever given."""
    try:
        given = int(durable.read(kept / _LAST))
    except (OSError, ValueError):
        given = 0
    return max((given, *_numbers(kept)))


def _read(environment: EnvironmentId, volume: str, number: int, folder: Path) -> VolumeSnapshot:
    try:
        about: Any = json.loads(durable.read(folder / "about.json"))
        at, running, used = datetime.fromisoformat(about["at"]), about["running"], about["bytes"]
        cause = from_json(SnapshotCause, about["cause"]) if "cause" in about else None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise HostError(
            f"cannot read '{folder / 'about.json'}': {error}", hint=f"look into '{folder / 'data'}'"
        ) from error
    return VolumeSnapshot(
        environment=environment,
        volume=volume,
        number=number,
        at=at,
        running=bool(running),
        where=str(folder / "data"),
        used_bytes=used if isinstance(used, int) else None,
        cause=cause,
    )


@contextlib.contextmanager
def _shown(folder: Path) -> Iterator[None]:
    """Have a volume with a limit mounted inside, and as it was afterwards."""
    mount = sized.has_limit(folder) and not folder.is_mount()
    if sized.has_limit(folder) or not folder.exists():
        sized.attach(folder, None)  # also where one was killed that replaced it
    try:
        yield
    finally:
        if mount:
            sized.detach(folder)


def _copied_bytes(source: Path, to: Path) -> int | None:
    """Return how many bytes a copy in ``to`` takes of the disk; None where it shares those of the source."""
    shares = source.stat().st_dev == to.stat().st_dev and _has_reflinks(to)
    return None if shares else volumes.used_bytes(source)


def _has_reflinks(folder: Path) -> bool:
    with tempfile.TemporaryFile(dir=folder) as one, tempfile.TemporaryFile(dir=folder) as other:
        try:
            one.write(b"x")
            one.flush()
            fcntl.ioctl(other, _FICLONE, one.fileno())
        except OSError:
            with contextlib.suppress(OSError):  # a disk without any room for what was written
                one.close()
            return False
    return True


def _copy(source: Path, made: Path, *, may_change: bool) -> None:
    """Copy a folder with all that it holds, owners, times and attributes too, to ``made``, and have it on the disk.

    What is mounted below it is not shown, and no link in it leads anywhere.
    """
    _require_room(made.parent, _copied_bytes(source, made.parent))
    try:
        with idmap.detached(source, attributes=idmap.NOSYMFOLLOW) as tree:
            folder = os.open(f"/proc/self/fd/{tree}/.", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                Copying(folder, made, may_change=may_change).run()
            finally:
                os.close(folder)
    except OSError as error:
        raise failed(source, error, _room_hint(made.parent.parent)) from error
    process.run(["sync", "--file-system", made], timeout_s=_TIMEOUT_S)


def _free_bytes(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _require_room(folder: Path, needed_bytes: int | None) -> None:
    free = _free_bytes(folder)
    if needed_bytes is not None and needed_bytes > free:
        raise HostError(
            f"cannot copy the volume: it holds {needed_bytes >> 20} MiB, {free >> 20} MiB are free",
            hint=_room_hint(folder.parent),
        )


def _room_hint(folder: Path) -> str:
    return f"make room: df -h '{folder}'; instar volumes snapshots lists what is kept"


def _refused(what: str, error: OSError, folder: Path) -> HostError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    cause = error.strerror or str(error)
    return HostError(f"{what}: {cause}; nothing was changed", hint=_room_hint(folder) if full else None)
