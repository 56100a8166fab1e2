"""Layers as EROFS images: derived from the store's blobs, mounted once each, shared by every instance.

ROOT/                              on the state's file system, kept
├── DIFF_ID.erofs                  immutable (chattr +i) where the file system can
├── DIFF_ID.sha256                 what its bytes must hash to; written last: without it there is no image
├── .making-XXXX/                  an image in the making; flocked by who makes it
└── lock                           held while something is mounted, unmounted, put in place or removed
MOUNTS/
├── FIRST_16_OF_DIFF_ID/           the mounts, gone after a reboot
├── FIRST_16_OF_DIFF_ID.verity     the root of the hashes by which the kernel checks what it reads of it (verity.py)
└── lock                           shared by who puts mounted layers together, alone for who takes mounts away

An image is made outside the lock and put in place by a rename, so two processes that make the same one do no harm.
Killed in the making: the directory's lock is free, and the next :meth:`LayerImages.prune` removes it. What a layer's
image holds is hashed before every mount, and where the file has changed since (hashed_files.py); one that is damaged is
made again from the blob.

What mounts and makes is imported when something is mounted or made: a bake in which nothing changed comes by here too.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from instar import durable
from instar.errors import ComponentMissing, HostError
from instar.host.filesystems import immutable, verity
from instar.host.kernel import loop_devices
from instar.host.processes import proc
from instar.model.digest import Digest
from instar.model.image import Layer

if TYPE_CHECKING:
    from instar.host.processes.proc import Mount
    from instar.store import Store
    from instar.store.hashed_files import HashedFiles

_MAKING, _VERITY = ".making-", ".verity"
_TRIES = 3
_UNASKED = f"nobody can tell what is read of it: {verity.PROGRAM} is not here any more"


class _Damaged(Exception):
    pass


class LayerImages:
    """Implements :class:`instar.store.mountable.MountableLayers`: images under ``root``, mounts under ``mounts``."""

    def __init__(self, store: Store, root: Path, mounts: Path, hashed_files: HashedFiles) -> None:
        self._store = store
        self._root = root
        self._mounts = mounts
        self._hashed_files = hashed_files
        self._devices = f"instar-{Digest.of(os.fsencode(root)).hex[:6]}-"

    def provide(self, layer: Layer, tree: Path | None = None) -> Path:
        self._provide(layer, tree)
        return self._image(layer.diff_id)

    def mount(self, layer: Layer) -> Path:
        target = self._target(layer.diff_id)
        if self._stands(layer.diff_id):
            return target
        from instar.host.kernel import mounts

        for _ in range(_TRIES):
            made = self._provide(layer, None)
            with self._locked():
                if self._stands(layer.diff_id):  # another was quicker
                    return target
                sound = self._is_sound(layer.diff_id, deep=not made)
                if not (sound and self._is_mounted_well(layer.diff_id)):
                    mounts.unmount_all(target)  # who stands on it keeps it
                    if not sound:
                        self._remove_image(layer.diff_id)
                        continue
                    self._mount(layer.diff_id)
                return target
        raise HostError(
            f"cannot mount the layer {layer.diff_id}: what is read of its image is never what was written",
            hint=f"is the disk of '{self._root}' well? dmesg",
        )

    def examine(
        self, diff_id: Digest, table: Mapping[str, Sequence[Mount]] | None = None, *, deep: bool = False
    ) -> str | None:
        """``table``: this process's mounts by their points, where they are known already."""
        if not self.is_made(diff_id):
            return "its image is not there"
        if not self._is_sound(diff_id, deep=deep):
            return "its bytes are others"
        return self._wrong_mount(diff_id, table)

    def seal(self, diff_id: Digest) -> str:
        """Return what a layer's bytes hash to, and what its file was like when they were hashed; "" where there is no
        image. Raises OSError."""
        if not self.is_made(diff_id):
            return ""
        return f"{self._recorded(diff_id)} {self._hashed_files.note(self._image(diff_id))}"

    def is_made(self, diff_id: Digest) -> bool:
        return self._record(diff_id).exists() and self._image(diff_id).exists()

    def is_immutable(self, diff_id: Digest) -> bool:
        return immutable.is_marked(self._image(diff_id))

    def is_verified(self, diff_id: Digest) -> bool:
        return self._verity_root(diff_id) is not None

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
        if below or last.kind != "erofs" or "ro" not in last.options.split(","):
            return f"mounted in its place: {', '.join(f'{one.kind} of {one.source}' for one in here)}"
        return self._wrong_source(diff_id, last.source)

    def _wrong_source(self, diff_id: Digest, source: str) -> str | None:
        """Say what is wrong with what a layer is mounted from."""
        image, root = str(self._image(diff_id)), self._verity_root(diff_id)
        if root is None:
            return None if loop_devices.backing_file(source) == image else f"mounted in its place: {source}"
        try:
            device = verity.look(source)
        except ComponentMissing:
            return _UNASKED
        if device is None or (device.root, device.file) != (root, image):
            return f"mounted in its place: {source}"
        return None if device.sound else "the kernel has read other bytes than its own"

    @contextlib.contextmanager
    def standing(self) -> Iterator[None]:
        """Have every layer that is mounted inside stay mounted until the end: by then whatever is made of it has it.

        An overlay keeps its layers, whoever unmounts them later.
        """
        with self._mounts_held(fcntl.LOCK_SH):
            yield

    def unmount_all(self) -> None:
        with self._mounts_held(fcntl.LOCK_EX), self._locked():
            self._unmount_but(())

    def prune(self, keep: Collection[Digest], in_use: Callable[[], Collection[Digest]]) -> int:
        freed = 0
        with self._mounts_held(fcntl.LOCK_EX), self._locked():
            used = in_use()
            self._unmount_but(used)
            kept = {diff_id.hex for diff_id in (*keep, *used)}
            for path in _entries(self._root):
                if path.name.startswith(_MAKING):
                    _remove_if_abandoned(path)
                elif path.suffix == ".erofs" and path.stem not in kept:
                    freed += path.stat().st_size
                    self._remove_image(Digest.from_hex(path.stem))
        return freed

    def _unmount_but(self, used: Collection[Digest]) -> None:
        from instar.host.kernel import mounts

        kept = {self._target(diff_id).name for diff_id in used}
        for target in _entries(self._mounts):
            if target.name not in kept and target.is_dir():
                mounts.unmount_all(target)
                target.rmdir()
                target.with_suffix(_VERITY).unlink(missing_ok=True)
        verity.sweep(self._devices)

    def _mount(self, diff_id: Digest) -> None:
        from instar.host.kernel import mounts

        image, target = self._image(diff_id), self._target(diff_id)
        target.mkdir(parents=True, exist_ok=True, mode=0o700)
        with verity.opened(image, self._devices) as device:
            if device is None:
                target.with_suffix(_VERITY).unlink(missing_ok=True)
                mounts.mount_erofs(image, target)
            else:
                mounts.mount_erofs(device.path, target)
                durable.write(target.with_suffix(_VERITY), device.root.encode(), lasting=False)

    def _provide(self, layer: Layer, tree: Path | None) -> bool:
        """Have an image of ``layer``; tell whether it was made just now."""
        if self.is_made(layer.diff_id):
            return False
        self._make(layer, tree)
        return True

    def _stands(self, diff_id: Digest) -> bool:
        return self._hashed_files.holds(self._image(diff_id)) and self._is_mounted_well(diff_id)

    def _is_mounted_well(self, diff_id: Digest) -> bool:
        """Tell whether a layer is mounted, and from nothing else than its image as far as anybody can tell."""
        return self._target(diff_id).is_mount() and self._wrong_mount(diff_id) in (None, _UNASKED)

    def _is_sound(self, diff_id: Digest, *, deep: bool = False) -> bool:
        """Tell whether an image is there and its bytes are its own; read them only if nothing says so, or ``deep``."""
        from instar.host.filesystems import erofs

        image = self._image(diff_id)
        if not deep and self._hashed_files.holds(image):
            return True
        with contextlib.suppress(_Damaged, OSError), self._hashed_files.sealing(image):
            if erofs.digest_of(image) != self._recorded(diff_id):
                raise _Damaged
            return True
        return False

    def _make(self, layer: Layer, tree: Path | None) -> None:
        from instar.host.filesystems import erofs

        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._making() as room:
            if tree is None:
                tree = room / "tree"
                tree.mkdir()
                self._store.unpack(layer, tree, copies=2)  # the image of it is about as large
            (room / "sha256").write_text(erofs.make(tree, room / "image"))
            with self._locked():
                self._put(room, layer.diff_id)

    def _put(self, room: Path, diff_id: Digest) -> None:
        if self.is_made(diff_id):  # another process was quicker
            return
        self._remove_image(diff_id)
        (room / "image").rename(self._image(diff_id))
        immutable.mark(self._image(diff_id))
        (room / "sha256").rename(self._record(diff_id))
        with self._hashed_files.sealing(self._image(diff_id)):
            pass  # its hash was taken while it was made

    def _remove_image(self, diff_id: Digest) -> None:
        immutable.remove(self._record(diff_id))
        immutable.remove(self._image(diff_id))
        self._hashed_files.forget(self._image(diff_id))

    def _image(self, diff_id: Digest) -> Path:
        return self._root / f"{diff_id.hex}.erofs"

    def _record(self, diff_id: Digest) -> Path:
        return self._root / f"{diff_id.hex}.sha256"

    def _recorded(self, diff_id: Digest) -> str:
        """Return what the image's bytes must hash to; one that is damaged is nothing that they could."""
        return durable.read_text(self._record(diff_id), "replace")

    def _target(self, diff_id: Digest) -> Path:
        return self._mounts / diff_id.hex[:16]

    def _verity_root(self, diff_id: Digest) -> str | None:
        """Return the root of the hashes by which the kernel checks what is mounted; None where it checks nothing."""
        with contextlib.suppress(FileNotFoundError):
            return durable.read_text(self._target(diff_id).with_suffix(_VERITY), "replace")
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
        # held by this process alone: a child of another thread that inherited it would hold it for as long as it lives
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


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
    from instar.host.filesystems import trees

    with contextlib.suppress(InstarError):  # the next prune tries again
        trees.remove(room)
