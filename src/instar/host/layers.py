"""Layers as EROFS images: derived from the store's blobs, mounted once each, shared by every instance.

ROOT/                              on the state's file system, kept
├── DIFF_ID.erofs                  immutable (chattr +i) where the file system can
├── DIFF_ID.sha256                 what its bytes must hash to; written last: without it there is no image
├── .making-XXXX/                  an image in the making; flocked by who makes it
└── lock                           held while something is mounted, unmounted, put in place or removed
MOUNTS/
├── FIRST_16_OF_DIFF_ID/           the mounts, gone after a reboot
├── FIRST_16_OF_DIFF_ID.checked    the image as it was (boot, inode, times) when its bytes were last hashed
└── lock                           shared by who puts mounted layers together, alone for who takes mounts away

An image is made outside the lock and put in place by a rename, so two processes that make the same one do no harm.
Killed in the making: the directory's lock is free, and the next :meth:`LayerImages.prune` removes it. What a layer's
image holds is checked against its hash before it is mounted, once a boot and after every change of the file; one that
is damaged is made again from the blob.

What mounts and makes is imported when something is mounted or made: a bake in which nothing changed comes by here too.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from instar.host import loop_devices, proc
from instar.model.digest import Digest
from instar.model.image import Layer

if TYPE_CHECKING:
    from instar.host.proc import Mount
    from instar.store import Store

_GET_FLAGS, _SET_FLAGS, _IMMUTABLE = 0x80086601, 0x40086602, 0x10
_MAKING = ".making-"


class LayerImages:
    """The layers' images under ``root`` and their mounts under ``mounts``."""

    def __init__(self, store: Store, root: Path, mounts: Path) -> None:
        self._store = store
        self._root = root
        self._mounts = mounts

    def provide(self, layer: Layer, tree: Path | None = None) -> Path:
        """Return the image of ``layer``; make it first where there is none.

        It is made of ``tree``, which must be the layer in overlay's form, when that is given, else of the store's blob.
        Raises HostError, BlobDamaged.
        """
        if not self._made(layer.diff_id):
            self._make(layer, tree)
        return self._image(layer.diff_id)

    def mount(self, layer: Layer) -> Path:
        """Return where ``layer`` is mounted; mount it first where it isn't. Raises HostError, BlobDamaged."""
        target = self._target(layer.diff_id)
        if target.is_mount() and self._is_checked(layer.diff_id) and self._wrong_mount(layer.diff_id) is None:
            return target
        from instar.host import mounts

        image = self._provide_sound(layer)
        with self._locked():
            if target.is_mount() and self._wrong_mount(layer.diff_id) is not None:
                mounts.unmount_all(target)
            if not target.is_mount():
                self._mounts.mkdir(parents=True, exist_ok=True, mode=0o700)
                target.mkdir(exist_ok=True, mode=0o700)
                mounts.mount_erofs(image, target)
        return target

    def examine(
        self, diff_id: Digest, table: Mapping[str, Sequence[Mount]] | None = None, *, deep: bool = False
    ) -> str | None:
        """Say what is wrong with a layer's image or its mount; None when nothing is.

        Its bytes are hashed when they were not since the boot, when the file is not the same any more (size, inode,
        times), or when ``deep``. ``table``: this process's mounts by their points, where they are known already.
        """
        from instar.host import erofs

        if not self._made(diff_id):
            return "its image is not there"
        if deep or not self._is_checked(diff_id):
            if erofs.digest_of(self._image(diff_id)) != self._recorded(diff_id):
                self._note(diff_id).unlink(missing_ok=True)
                return "its bytes are others"
            self._note_checked(diff_id)
        return self._wrong_mount(diff_id, table)

    def is_immutable(self, diff_id: Digest) -> bool:
        """Tell whether the file system refuses every write to the layer's image (``chattr +i``)."""
        try:
            return _is_immutable(self._image(diff_id))
        except OSError:
            return False

    def device(self, diff_id: Digest, table: Mapping[str, Sequence[Mount]]) -> str | None:
        """Return the device on which a layer is mounted; None where it isn't."""
        here = table.get(str(self._target(diff_id)), ())
        return here[-1].device if here else None

    def _wrong_mount(self, diff_id: Digest, table: Mapping[str, Sequence[Mount]] | None = None) -> str | None:
        """Say what else than the layer's image is mounted in its place."""
        target = str(self._target(diff_id))
        if table is None:
            here: Sequence[Mount] = [one for one in proc.mounts() if one.point == target]
        else:
            here = table.get(target, ())
        if not here:
            return None
        (last, *below) = here
        right = not below and last.kind == "erofs" and "ro" in last.options.split(",")
        if right and loop_devices.backing_file(last.source) == str(self._image(diff_id)):
            return None
        return f"mounted in its place: {', '.join(f'{one.kind} of {one.source}' for one in here)}"

    @contextlib.contextmanager
    def standing(self) -> Iterator[None]:
        """Have every layer that is mounted inside stay mounted until the end: by then whatever is made of it has it.

        An overlay keeps its layers, whoever unmounts them later.
        """
        with self._mounts_held(fcntl.LOCK_SH):
            yield

    def unmount_unused(self, in_use: Collection[Digest]) -> None:
        """Unmount every layer but those whose diff IDs are ``in_use``. Raises HostError."""
        from instar.host import mounts

        kept = {self._target(diff_id).name for diff_id in in_use}
        with self._mounts_held(fcntl.LOCK_EX), self._locked():
            for target in _entries(self._mounts):
                if target.name not in kept and target.is_dir():
                    mounts.unmount_all(target)
                    target.rmdir()

    def prune(self, keep: Collection[Digest]) -> int:
        """Unmount and remove every layer but those whose diff IDs are in ``keep``; return the bytes given back."""
        self.unmount_unused(keep)
        kept = {diff_id.hex for diff_id in keep}
        freed = 0
        with self._mounts_held(fcntl.LOCK_EX), self._locked():
            for path in _entries(self._root):
                if path.name.startswith(_MAKING):
                    _remove_if_abandoned(path)
                elif path.suffix == ".erofs" and path.stem not in kept:
                    freed += path.stat().st_size
                    self._remove_image(Digest.from_hex(path.stem))
        return freed

    def _provide_sound(self, layer: Layer) -> Path:
        from instar.host import erofs

        image = self._image(layer.diff_id)
        if self._made(layer.diff_id) and not self._is_checked(layer.diff_id):
            if erofs.digest_of(image) == self._recorded(layer.diff_id):
                self._note_checked(layer.diff_id)
            else:
                from instar.host import mounts

                with self._locked():
                    mounts.unmount_all(self._target(layer.diff_id))  # who stands on it keeps it
                    self._remove_image(layer.diff_id)
        return self.provide(layer)

    def _make(self, layer: Layer, tree: Path | None) -> None:
        from instar.host import erofs

        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._making() as room:
            if tree is None:
                tree = room / "tree"
                tree.mkdir()
                self._store.unpack(layer, tree)
            (room / "sha256").write_text(erofs.make(tree, room / "image"))
            with self._locked():
                self._put(room, layer.diff_id)

    def _put(self, room: Path, diff_id: Digest) -> None:
        if self._made(diff_id):  # another process was quicker
            return
        self._remove_image(diff_id)
        (room / "image").rename(self._image(diff_id))
        _set_immutable(self._image(diff_id), True)
        (room / "sha256").rename(self._record(diff_id))
        self._note_checked(diff_id)

    def _made(self, diff_id: Digest) -> bool:
        return self._record(diff_id).exists() and self._image(diff_id).exists()

    def _remove_image(self, diff_id: Digest) -> None:
        _remove(self._record(diff_id))
        _remove(self._image(diff_id))
        self._note(diff_id).unlink(missing_ok=True)

    def _is_checked(self, diff_id: Digest) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return self._note(diff_id).read_text() == _identity(self._image(diff_id))
        return False

    def _note_checked(self, diff_id: Digest) -> None:
        self._mounts.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._note(diff_id).write_text(_identity(self._image(diff_id)))

    def _image(self, diff_id: Digest) -> Path:
        return self._root / f"{diff_id.hex}.erofs"

    def _record(self, diff_id: Digest) -> Path:
        return self._root / f"{diff_id.hex}.sha256"

    def _target(self, diff_id: Digest) -> Path:
        return self._mounts / diff_id.hex[:16]

    def _note(self, diff_id: Digest) -> Path:
        return self._mounts / f"{diff_id.hex[:16]}.checked"

    def _recorded(self, diff_id: Digest) -> str | None:
        with contextlib.suppress(FileNotFoundError):
            return self._record(diff_id).read_text()
        return None

    @contextlib.contextmanager
    def _making(self) -> Iterator[Path]:
        import tempfile

        room = Path(tempfile.mkdtemp(dir=self._root, prefix=_MAKING))
        descriptor = os.open(room, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield room
        finally:
            _discard(room)
            os.close(descriptor)

    @contextlib.contextmanager
    def _mounts_held(self, how: int) -> Iterator[None]:
        """Hold the lock of the mounts inside. It is taken before the images' lock, never within it."""
        self._mounts.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._mounts / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # held by this process alone: what a mount needs is done by system calls, and a child of another thread
        # that inherited it would hold it for as long as it lives
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _identity(image: Path) -> str:
    """Return what changes when a file is written, whoever does it; a disk that decays changes nothing of it."""
    from instar.host.processes import boot_id

    status = image.stat()
    times = f"{status.st_mtime_ns} {status.st_ctime_ns}"
    return f"{boot_id()} {status.st_dev} {status.st_ino} {status.st_size} {times}"


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        _set_immutable(path, False)
        path.unlink()


def _remove_if_abandoned(room: Path) -> None:
    descriptor = os.open(room, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _discard(room)
    except BlockingIOError:
        pass  # its maker lives
    finally:
        os.close(descriptor)


def _discard(room: Path) -> None:
    from instar.errors import InstarError
    from instar.host import trees

    with contextlib.suppress(InstarError):  # the next prune tries again
        trees.remove(room)


def _is_immutable(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        flags = array.array("l", [0])
        fcntl.ioctl(descriptor, _GET_FLAGS, flags, True)
        return bool(flags[0] & _IMMUTABLE)
    finally:
        os.close(descriptor)


def _set_immutable(path: Path, immutable: bool) -> None:
    """Set or clear ``chattr +i``; file systems without it (tmpfs before 6.6, overlay) are left as they are."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            flags = array.array("l", [0])
            fcntl.ioctl(descriptor, _GET_FLAGS, flags, True)
            wanted = flags[0] | _IMMUTABLE if immutable else flags[0] & ~_IMMUTABLE
            if wanted != flags[0]:
                fcntl.ioctl(descriptor, _SET_FLAGS, array.array("l", [wanted]))
    finally:
        os.close(descriptor)
