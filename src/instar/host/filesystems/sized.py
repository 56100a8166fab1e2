"""A folder that holds no more than it may: an ext4 file system in a file beside it, mounted on it.

PARENT/
├── NAME/              the folder: what is mounted on it is what it holds
├── .NAME.img          its file system, all of its room reserved; from the first time that there was a limit
├── .NAME.img.new      one in the making; without worth
├── .NAME.copy/        where that one is mounted while it is filled; without worth
├── .NAME.old/         what the folder held before it had a limit: moved back without .img, removed beside it
├── .NAME.restored/    what it is to hold, being filled, or what it held before; without worth
└── .lock              held by who makes, grows, mounts or unmounts one

Nothing that was in the folder is lost: what it held before it had a limit is copied, and the copy counts when it is
whole. A limit only grows: a smaller one changes nothing, so that a release before can come back. It grows in use where
root may do that (CAP_SYS_RESOURCE), else when it is mounted next. Killed at any point, the next one goes on. The file
has one loop device at a time, whoever has it mounted: two would destroy it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from instar import durable, locks, process, syscalls
from instar.descent import FOLDER
from instar.errors import CommandFailed, EnvironmentBusy, HalfDone, HostError
from instar.host.filesystems import trees
from instar.host.filesystems.copying import Copying, failed
from instar.host.kernel import loop_devices, mounts
from instar.host.processes import proc

_CAUSE_LETTERS = 300  # a volume's paths are the service's own
_TIMEOUT_S = 3_600.0
_PATIENCE_S = 600.0
# in the order in which they go: what was can't come back then
_BESIDE = (".restored", ".old", ".copy", ".img.new", ".img")
_HOLDING = _BESIDE[1:]  # where one of these is, there is the folder, or was
_WHOLE = (0, 1)  # e2fsck: nothing wrong, or put right


class InUse(HostError):
    """Somebody has the folder, so that what is in it cannot be moved."""


def has_limit(folder: Path) -> bool:
    """Tell whether there is a file system of the folder's own."""
    return _image(folder).exists()


def attach(folder: Path, size_bytes: int | None) -> None:
    """Have ``folder`` hold at most ``size_bytes``, as much as before without a number, and mount it where it isn't.

    Raises HostError; InUse where it has no limit yet, and somebody works in it.
    """
    with _locked(folder):
        _recover(folder)
        if size_bytes is not None and not has_limit(folder):
            _limit(folder, size_bytes)
        if size_bytes is not None and size_bytes > _image(folder).stat().st_size:
            _reserve(_image(folder), size_bytes)
        if not folder.is_mount():
            _mount(folder)
        elif _grows(_image(folder)):
            _grow_in_use(_image(folder))


def detach(folder: Path) -> None:
    """Unmount the folder, where it is mounted. Raises HostError."""
    if folder.parent.is_dir() and has_limit(folder):
        with _locked(folder):
            mounts.unmount_all(folder)


def names(parent: Path) -> set[str]:
    """Return the names of the folders of which there is anything in ``parent``, also where one was killed."""
    found = set()
    for path in parent.iterdir() if parent.is_dir() else ():
        if not path.name.startswith("."):
            found |= {path.name} if path.is_dir() else set()
            continue
        found |= {path.name[1 : -len(end)] for end in _HOLDING if path.name.endswith(end)}
    return {name for name in found if name and not name.startswith(".")}


def kept_in(folder: Path) -> Path:
    """Return what takes the room of the disk that a folder has."""
    return next((path for path in (_image(folder), folder) if path.exists()), _old(folder))


def remove(folder: Path) -> None:
    """Remove the folder with all that it holds. Killed at any point, it is there to be removed again, and nothing comes
    back that was removed: the folder itself goes last. Raises HostError."""
    with _locked(folder):
        for path in (folder, _room(folder)):
            mounts.unmount_all(path)
        for end in _BESIDE:
            trees.remove(folder.with_name(f".{folder.name}{end}"))
        trees.remove(folder)


@contextlib.contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """Give the name of a folder to be made; what it is filled with inside is what ``folder`` holds in the end, in place
    of what it did, and without a limit until it is attached with one. Killed at any point, it holds one of both.

    Nobody has the folder, which may be missing. Raises HostError where it holds what it did, HalfDone where it may hold
    either. That what it held before cannot be removed is no reason: the next one that replaces it has to.
    """
    new = _restored(folder)
    with _locked(folder):
        _recover(folder)
        trees.remove(new)
        try:
            yield new
            _take_place(new, folder)
        finally:
            with contextlib.suppress(HostError):
                trees.remove(new)


def _take_place(new: Path, folder: Path) -> None:
    """Have ``folder`` be what ``new`` is. Raises HostError where it isn't, HalfDone where it may be."""
    limited = has_limit(folder)
    try:
        if limited:
            mounts.unmount_all(folder)
            _require_bare(folder)
            new.rename(_old(folder))
            durable.sync(folder.parent)
            _image(folder).unlink()  # from here on it is what was restored that is moved back
        elif folder.exists():
            syscalls.exchange(new, folder)
        else:
            new.rename(folder)
    except OSError as error:
        raise HostError(f"cannot replace what '{folder}' holds: {error.strerror}") from error
    try:
        durable.sync(folder.parent)
        if limited:
            _recover(folder)
            durable.sync(folder.parent)
    except (HostError, OSError) as error:
        cause = error.message if isinstance(error, HostError) else error.strerror
        raise HalfDone(f"cannot be sure of what '{folder}' holds: {cause}") from error


def _image(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.img")


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _restored(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.restored")


def _room(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.copy")


def _recover(folder: Path) -> None:
    """Go on where one was killed that moved what the folder held into a file system."""
    if _room(folder).exists():
        mounts.unmount_all(_room(folder))
        _room(folder).rmdir()
    _image(folder).with_suffix(".img.new").unlink(missing_ok=True)
    with contextlib.suppress(HostError):  # without worth, and in nobody's way but who replaces the folder
        trees.remove(_restored(folder))
    if not _old(folder).exists():
        return
    if has_limit(folder):
        trees.remove(_old(folder))
    else:
        with contextlib.suppress(FileNotFoundError):
            folder.rmdir()
        _old(folder).rename(folder)


def _limit(folder: Path, size_bytes: int) -> None:
    """Make a file system for the folder, with what it holds in it."""
    held = folder.stat()
    if users := _users(folder):
        raise InUse(
            f"cannot limit '{folder}': its data would have to be moved, and it is in use (by process {min(users)})",
            hint="leave 'size' out; or: instar destroy ENV, which keeps volumes, and then deploy again",
        )
    new = _image(folder).with_suffix(".img.new")
    _reserve(new, size_bytes)
    owner = f"root_owner={held.st_uid}:{held.st_gid}"
    _run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", f"{owner},nodiscard", str(new))
    _reserve(new, size_bytes)  # mkfs makes holes
    old, image = _old(folder), _image(folder)
    try:
        _copy(folder, new)
    except HostError:
        new.unlink(missing_ok=True)
        raise
    folder.rename(old)
    folder.mkdir(mode=0o700)
    new.rename(image)
    durable.sync(folder.parent)
    trees.remove(old)


def _copy(folder: Path, image: Path) -> None:
    """Copy what ``folder`` holds into the file system ``image``, all of it or nothing that counts."""
    room = _room(folder)
    room.mkdir(mode=0o700, exist_ok=True)
    try:
        _mount_image(image, room)
        source = os.open(folder, FOLDER)
        try:
            Copying(source, room, may_change=False).run()
        except OSError as error:
            raise failed(folder, error) from error
        finally:
            os.close(source)
        durable.sync(room)
    finally:
        mounts.unmount_all(room)
        room.rmdir()


def _reserve(file: Path, size_bytes: int) -> None:
    """Take the room from the disk, so that whoever writes to the file system is not told of a full disk too late."""
    before = file.stat().st_size if file.exists() else 0
    _require_room(file.parent, size_bytes - before)
    try:
        with file.open("ab") as opened:
            file.chmod(0o600)
            os.posix_fallocate(opened.fileno(), 0, size_bytes)
            os.fsync(opened.fileno())
    except OSError as error:
        with contextlib.suppress(OSError):
            os.truncate(file, before)
            if file.name.endswith(".new"):
                file.unlink()
        hint = f"it takes {size_bytes >> 20} MiB of the disk: df -h '{file.parent}'" if _is_full(error) else None
        raise HostError(f"cannot reserve the room of a volume: {error.strerror}", hint=hint) from error


def _require_room(folder: Path, needed_bytes: int) -> None:
    """Refuse what the disk cannot give, before it is tried: others write to it too. Raises HostError."""
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if needed_bytes > free:
        raise HostError(
            f"cannot reserve the room of a volume: it takes {needed_bytes >> 20} MiB more, {free >> 20} MiB are free",
            hint=f"a smaller 'size' in service.volumes, or a larger disk: df -h '{folder}'",
        )


def _grows(image: Path) -> bool:
    """Tell whether the file is longer than its file system, by its superblock. Source: ext4.rst, s_blocks_count_lo."""
    with image.open("rb") as file:
        block = file.read(2048)[1024:]
    count, size = struct.unpack_from("<I", block, 4)[0], 1024 << struct.unpack_from("<I", block, 24)[0]
    return bool((count + 1) * size <= image.stat().st_size)


def _grow_in_use(image: Path) -> None:
    device = loop_devices.find(image)
    if device is None:
        raise HostError(f"cannot use '{image}': something else is mounted in its place")
    loop_devices.adjust(device)
    with contextlib.suppress(CommandFailed):  # it may not: then the next time that it is mounted
        process.run(["resize2fs", device], timeout_s=_TIMEOUT_S)


def _mount(folder: Path) -> None:
    _require_bare(folder)
    folder.mkdir(mode=0o700, exist_ok=True)
    _mount_image(_image(folder), folder)


def _require_bare(folder: Path) -> None:
    """Raise HostError where something lies below a file system that is not mounted."""
    with contextlib.suppress(FileNotFoundError):
        if any(folder.iterdir()):
            raise HostError(
                f"cannot mount '{folder}': there are files in it, put there while it was not mounted",
                hint="move them away; what the volume holds is in the file beside it, and is shown once it is mounted",
            )


def _mount_image(image: Path, target: Path) -> None:
    device = loop_devices.find(image)
    if device is not None:  # somebody has it mounted elsewhere still
        mounts.mount_disk(device, target)
        return
    _check(image, target)
    if _grows(image):
        _check(image, target, "-f")
        _run("resize2fs", str(image))
    with contextlib.suppress(HostError):  # fstrim makes holes; what the disk has no room for any more is no reason
        _reserve(image, image.stat().st_size)
    with loop_devices.attached(image, writable=True) as device:
        mounts.mount_disk(device, target)
    with contextlib.suppress(OSError):
        (target / "lost+found").rmdir()  # programs that want an empty folder refuse one with it; e2fsck makes it anew


def _check(image: Path, target: Path, *how: str) -> None:
    """Put right what a crash has left. Raises HostError where that takes a person."""
    checked = process.run(["e2fsck", "-p", *how, image], timeout_s=_TIMEOUT_S, check=False)
    if checked.returncode not in _WHOLE:
        said = (checked.stdout + checked.stderr).decode(errors="replace").strip().split("\n")[-1]
        raise HostError(f"cannot mount '{target}': its file system is damaged: {said}", hint=f"e2fsck -f '{image}'")


def _users(folder: Path) -> set[int]:
    """Return a process of each mount namespace in which the folder is shown somewhere else."""
    own = max((one for one in proc.mounts() if folder.is_relative_to(one.point)), key=lambda one: len(one.point))
    root = f"{own.root.rstrip('/')}/{folder.relative_to(own.point)}"
    found, seen = set(), set()
    for pid in proc.pids():
        with contextlib.suppress(OSError, ValueError, KeyError):
            space = proc.namespaces(pid)["mnt"]
            if space not in seen:
                seen.add(space)
                if any(one.device == own.device and one.root == root for one in proc.mounts(pid)):
                    found.add(pid)
    return found


def _is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


def _run(*argv: str) -> None:
    try:
        process.run(argv, timeout_s=_TIMEOUT_S)
    except CommandFailed as error:
        cause = error.output.strip().split("\n")[-1] or error.message
        raise HostError(f"cannot limit a volume: {argv[0]}: {_in_short(cause)}") from error


def _in_short(cause: str) -> str:
    return cause if len(cause) <= _CAUSE_LETTERS else f"{cause[:150]} … {cause[-100:]}"


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock, which programs that are started inside keep: one that copies may live longer than who began it."""
    hint = "it may be copying what the volume holds; wait until it has finished, then ask again"
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locks.hold(folder.parent / ".lock", str(folder), wait_s=_PATIENCE_S, hint=hint))
        except EnvironmentBusy as busy:
            raise HostError(busy.message, hint=busy.hint) from busy
        yield
