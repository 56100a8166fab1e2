"""An instance's root file system: its image's layers on the base plate, read-only, and what shows in it besides.

The layers are mounted once for all (``LayerImages``); an instance has an overlay of copies of these mounts whose owners
are shifted into its user namespace. When the overlay stands, the copies are taken away again: it keeps its own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from instar.errors import HostError, ProviderError
from instar.frozen import dataclass
from instar.host.filesystems import base_plate, mount_point_layer, sized, trees
from instar.host.filesystems.layers import LayerImages
from instar.host.isolation.bundle import Bind, Users
from instar.host.kernel import idmap, mounts, namespaces
from instar.host.kernel.namespaces import IdRange, Unsupported
from instar.host.processes.proc import device_text
from instar.model.definition import Volume
from instar.model.digest import Digest
from instar.model.image import Image
from instar.model.release import EnvironmentId
from instar.providers.local import record
from instar.providers.local.names import InstanceNames, Names


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """Whose volumes are to be inside: the image's user, in an instance with ``ids`` of its own or with none.

    ``may_differ``: it may give files away itself (the capability CHOWN), so a volume that is another's may be meant so.
    """

    uid: int
    gid: int
    ids: IdRange | None
    may_differ: bool = False


_NOT_HERE = frozenset({errno.EINVAL, errno.EPERM, errno.EOPNOTSUPP})
_SAFE = idmap.NOSUID | idmap.NODEV


def make_room(names: InstanceNames) -> None:
    """Make the folder that the root is in."""
    names.of.roots.mkdir(exist_ok=True)
    names.of.roots.chmod(0o711)  # whatever the umask
    names.room.mkdir(mode=0o700, exist_ok=True)
    names.root.mkdir(mode=0o755, exist_ok=True)


def let_through(names: InstanceNames, users: Users) -> None:
    """Let the instance's own users, and nobody else but root, through the folder that the root is in."""
    os.chown(names.room, users.ids.first, users.ids.first)


def mount(
    names: InstanceNames, image: Image, points: Sequence[str], images: LayerImages, users: int | None
) -> tuple[tuple[Digest, str], ...]:
    """Mount the root, its owners shifted into the namespace ``users`` (a fd); return the diff ID and the device of each
    of its layers, topmost first. Raises HostError, Unsupported."""
    with images.standing():
        lowers = _lowers(names, image, points, images)
        layers = [mounted for _, mounted in lowers]
        if users is None:
            mounts.mount_overlay(layers, names.root)
        else:
            _mount_shifted(names, layers, users)
        devices = tuple((layer, device_text(mounted.stat().st_dev)) for layer, mounted in lowers)
    idmap.restrict(names.root, _SAFE)
    return devices


def check_points(root: Path, folders: Iterable[str], files: Iterable[str]) -> None:
    """Refuse a root in which runc would follow a link, or find something else, where it is to mount.

    Raises ProviderError.
    """
    for point in folders:
        _check_point(root, point, stat.S_ISDIR, "folder")
    for point in files:
        _check_point(root, point, stat.S_ISREG, "file")


def make_volume(names: Names, environment: EnvironmentId, volume: Volume, uid: int, gid: int) -> Path:
    """Return where the volume is kept on this machine; made, empty and the image's user's, the first time."""
    path = names.volumes(environment) / volume.name
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir()
        path.chmod(0o755)
    if volume.size_bytes is not None or sized.has_limit(path):
        sized.attach(path, volume.size_bytes)
    if path.stat().st_uid == 0:  # new, or whoever made it was killed: instances may come here at the same time
        os.chown(path, uid, gid)
    return path


def remove_volumes(names: Names, environment: EnvironmentId) -> None:
    """Remove all volumes of an environment, with what is in them. Raises HostError."""
    folder = names.volumes(environment)
    for name in sorted(sized.names(folder)):
        sized.remove(folder / name)
    trees.remove(folder)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()  # other environments of the service may have theirs in it


def unmount_volumes(folder: Path) -> None:
    """Unmount the volumes in ``folder`` that have a limit; instances that have one keep it. Raises HostError."""
    for path in folder.iterdir() if folder.is_dir() else ():
        sized.detach(path)


def show_volume(names: InstanceNames, volume: Volume, source: Path, users: int | None, owner: Owner) -> Bind:
    """Make ``source`` ready to be shown inside, its owners shifted. Raises Unsupported, HostError, ProviderError."""
    target = names.room / "volumes" / volume.name
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    attributes = _SAFE | (0 if volume.exec else idmap.NOEXEC)
    with _as_owner(volume, source, users, owner) as shifted:
        idmap.clone(source, target, users=shifted, attributes=attributes)
    return Bind(source=target, target=volume.path, writable=True, executable=volume.exec)


@contextlib.contextmanager
def _as_owner(volume: Volume, source: Path, users: int | None, owner: Owner) -> Iterator[int | None]:
    """Yield the namespace to shift a volume's owners into, so that whoever it was made for is the image's user.

    Nothing on the disk changes: a release before, whose user has the number of then, goes on as it was.
    """
    found = source.stat()
    if owner.may_differ or (found.st_uid, found.st_gid) == (owner.uid, owner.gid):
        yield users
    elif users is not None and owner.ids is not None:
        pairs = (found.st_uid, owner.uid), (found.st_gid, owner.gid)
        with namespaces.exchanged(owner.ids, *pairs) as descriptor:
            yield descriptor
    elif found.st_uid == owner.uid:
        yield users
    else:
        before, now = f"{found.st_uid}:{found.st_gid}", f"{owner.uid}:{owner.gid}"
        raise ProviderError(
            f"the volume '{volume.name}' belongs to user {before}, and the image's user is {now}",
            hint=f"keep the number (image.user: uid: {found.st_uid}), or, when no release before is to come back: "
            f"chown -R --from={before} {now} {shlex.quote(str(source))}",
        )


def unmount(names: InstanceNames) -> None:
    """Unmount all that is in the instance's room, and remove the folders; never a file in one. Raises HostError."""
    mounts.unmount_all(names.room)
    names.users.unlink(missing_ok=True)
    try:
        for folder, _, _ in os.walk(names.room, topdown=False):
            Path(folder).rmdir()
    except OSError as error:
        raise HostError(f"cannot remove '{names.room}': {error.strerror}") from error


def hide_volumes(names: InstanceNames) -> None:
    """The instance has its own mounts by now: take those that it was made from away."""
    mounts.unmount_all(names.room / "volumes")


def _lowers(
    names: InstanceNames, image: Image, points: Sequence[str], images: LayerImages
) -> list[tuple[Digest, Path]]:
    """Return the layers that the root is made of, topmost first, and where each is mounted."""
    layers = [(layer.diff_id, images.mount(layer)) for layer in reversed(image.layers)]
    for _, mounted in layers:
        if os.path.lexists(f"{mounted}{base_plate.OWN_FOLDER}"):
            raise ProviderError(f"the image has a '{base_plate.OWN_FOLDER}', which is Instar's own")
    layers.append((base_plate.layer(points).diff_id, base_plate.mount(images, points)))
    wanted = mount_point_layer.folders([mounted for _, mounted in layers], points)
    if wanted:
        above = mount_point_layer.layer(wanted).diff_id
        record.add_layer(names, above)
        layers.insert(0, (above, mount_point_layer.mount(images, wanted)))
    return layers


def _mount_shifted(names: InstanceNames, lowers: Sequence[Path], users: int) -> None:
    shifted = []
    try:
        for number, lower in enumerate(dict.fromkeys(lowers)):  # a copy of the same would be another to the overlay
            mounted = names.room / "layers" / str(number)
            mounted.mkdir(mode=0o700, parents=True, exist_ok=True)
            idmap.clone(lower, mounted, users=users)
            shifted.append(mounted)
        mounts.mount_overlay(shifted, names.root)
    except HostError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in _NOT_HERE:
            raise Unsupported(f"this kernel cannot overlay shifted layers: {error.__cause__.strerror}") from error
        raise
    finally:
        for mounted in shifted:
            mounts.unmount(mounted)


def _check_point(root: Path, point: str, wanted: Callable[[int], bool], kind: str) -> None:
    path = root
    parts = PurePosixPath(point).parts[1:]
    for number, part in enumerate(parts, 1):
        path = path / part
        inside = "/" + "/".join(parts[:number])
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            raise ProviderError(
                f"the image has no '{point}', and hides the one below it",
                hint=f"make it in the image: mkdir -p {point}",
            ) from None
        if stat.S_ISLNK(mode):
            raise ProviderError(f"'{inside}' in the image is a link, and something is to be mounted there")
        last = number == len(parts)
        if last and not wanted(mode):
            raise ProviderError(f"'{inside}' in the image is not a {kind}, and something is to be mounted there")
