"""``instar backup``: one file with all that this machine needs to be there again. What runs goes on meanwhile.

The ledger is copied first, at one moment. From before that until the end nothing is collected (``keep_from_gc``), so
that the images and secrets that its releases need are there when their turn comes.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from instar import __version__, durable, locks
from instar.backup.contents import FORMAT, LEDGER, MACHINE_FILE, NETWORK, KeptEnvironment, Lost, Summary
from instar.backup.outcomes import Made
from instar.backup.writing import Member, write
from instar.errors import BackupError, NotFound, Refused, UsageError
from instar.ledger import Ledger
from instar.ledger.copying import copy_to_file, moved_to
from instar.ledger.events import moved
from instar.model.digest import Digest
from instar.model.progress import Progress
from instar.model.release import EnvironmentState
from instar.model.state import StateDirectory, machine_file
from instar.operations.age_files import recipients_of
from instar.operations.backup_volumes import VolumeData, stored_volumes
from instar.operations.locks import is_here, keep_from_gc
from instar.operations.retention import environments_with_releases, kept, required
from instar.operations.workspace import Workspace
from instar.store.header import REGULAR, Entry
from instar.store.selection import Selection

_CHUNK_BYTES: Final = 1 << 20
_SECRET: Final = re.compile(r"key|[0-9a-f]{64}")
_LAYOUT: Final = "oci-layout"


def backup(
    workspace: Workspace,
    file: Path,
    *,
    keys: Sequence[str],
    key_files: Sequence[Path],
    secrets: bool,
    volumes: bool = False,
) -> Made:
    """Write a backup to ``file``, encrypted for the age ``keys``, and those in ``key_files``, if there are any.
    ``volumes``: with the data in them, as it is found while services may write it.

    Raises UsageError where secrets would stand in it in the clear, Refused where there is a ``file`` already, NotFound
    where there is nothing to back up, LedgerDamaged, BlobDamaged and BackupError.
    """
    recipients = recipients_of(keys, key_files)
    if secrets and not recipients:
        raise UsageError(
            "cannot back up secrets in the clear: nothing says for whom to encrypt",
            hint="--recipient age1…, of a key that is kept somewhere else than on this machine (instar secrets key "
            "makes one); or --without-secrets",
        )
    _require_new(file)
    if not workspace.has_ledger or not workspace.state.root.exists():
        raise NotFound(f"cannot back up '{workspace.state.root}': there is nothing of Instar's")
    to = None if workspace.ledger.shared else moved_to(workspace.ledger)
    if to is not None:
        raise moved(workspace.ledger.address, to)
    with locks.hold(workspace.state.locks / "backup", "a backup"), keep_from_gc(workspace), _ledger(workspace) as copy:
        with Ledger(copy, actor=workspace.actor) as ledger:
            ledger.verify()
            images, without = _images(workspace, ledger)
            summary = _summary(workspace, ledger, secrets=secrets)
        selection = workspace.store.selection(images)
        data = stored_volumes(workspace) if volumes else ()
        size_bytes = copy.stat().st_size + sum(size for _, size in selection.blobs)
        size_bytes += _size_of(workspace.state, secrets=secrets) + sum(one.size_bytes for one in data)
        summary = replace(summary, size_bytes=size_bytes, volumes=tuple(map(str, data)) if volumes else None)
        members = _members(workspace, copy, selection, data, secrets=secrets)
        written = write(file, summary, members, recipients, lambda: _lost(data))
    return Made(
        summary=summary,
        file=file,
        size_bytes=written,
        encrypted=bool(recipients),
        images=len(images),
        without=without,
        left_out={str(one): dict(one.left_out) for one in data if one.left_out},
        lost=_lost(data),
        snapshots=sum(1 for _ in workspace.state.snapshots.glob("*/*/*/*/about.json")),
    )


def _lost(data: Sequence[VolumeData]) -> Lost:
    return {str(one): tuple(one.lost) for one in data if one.lost}


def _require_new(file: Path) -> None:
    if os.path.lexists(file):
        raise Refused(f"cannot write the backup '{file}': there is such a file", hint="name one that is not there yet")
    if not file.absolute().parent.is_dir():
        raise UsageError(f"cannot write the backup '{file}': there is no folder '{file.absolute().parent}'")


@contextlib.contextmanager
def _ledger(workspace: Workspace) -> Iterator[Path]:
    """Give a copy of the ledger, as it is at one moment, which is gone afterwards."""
    start = ".backup."
    for left in durable.leftovers(workspace.state.root):
        if left.name.startswith(start):
            _remove(left)
    folder = workspace.state.root / f"{start}{os.urandom(8).hex()}"
    try:
        folder.mkdir(mode=0o700)
        copy_to_file(workspace.ledger, folder / "instar.db")
        yield folder / "instar.db"
    except OSError as error:
        raise BackupError(f"cannot copy the ledger to '{folder}': {(error.strerror or str(error)).lower()}") from error
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def _images(workspace: Workspace, ledger: Ledger) -> tuple[set[Digest], tuple[str, ...]]:
    """Return the images of the kept releases that are here, and which releases are kept whose image is not. Raises
    BackupError for one that runs here."""
    there, found, without = set(workspace.store.digests()), set[Digest](), []
    for one in environments_with_releases(ledger):
        own = workspace.machine_of(one.state.settings.provider) is not None and is_here(workspace, one.state)
        needed = required(one.state, one.releases, one.present) if own else frozenset[int]()
        for release in one.releases:
            if release.number not in kept(one.state, one.releases, one.present):
                continue
            if release.image in there:
                found.add(release.image)
            elif release.number in needed:
                raise BackupError(
                    f"cannot back up '{one.state.id}': the store has no image '{release.image.short}', of its "
                    f"release {release.number}",
                    hint="bake it again (instar bake), or bring it back: instar pull; no backup was made",
                )
            else:
                without.append(f"{one.state.id} {release.number}")
    return found, tuple(without)


def _summary(workspace: Workspace, ledger: Ledger, *, secrets: bool) -> Summary:
    state = workspace.state
    return Summary(
        format=FORMAT,
        id=os.urandom(16).hex(),
        at=ledger.now(),
        version=__version__,
        schema=ledger.schema_version,
        ledger=ledger.identity(),
        machine=workspace.machine,
        state=str(state.root),
        state_id=workspace.find_state_id(),
        shared=workspace.ledger.address if workspace.ledger.shared else None,
        secrets=secrets,
        volumes=None,
        environments=tuple(_environment(workspace, ledger, one) for one in ledger.environments()),
        size_bytes=0,
    )


def _environment(workspace: Workspace, ledger: Ledger, state: EnvironmentState) -> KeptEnvironment:
    release = None if state.active is None else ledger.get_release(state.id, state.active)
    return KeptEnvironment(
        name=str(state.id),
        provider=state.settings.provider,
        of_one_machine=workspace.machine_of(state.settings.provider) is not None,
        release=state.active,
        image=None if release is None else release.image,
        machine=state.machine,
        listen=state.settings.all_listen,
        names=tuple(dict.fromkeys(site.partition("/")[0] for site in state.settings.names.sites)),
        secrets=release is not None and bool(release.configuration.secrets),
        volumes=() if release is None else _volumes_of(release.configuration),
    )


def _volumes_of(configuration: Any) -> tuple[str, ...]:
    services = (configuration.service, *configuration.roles.values())
    return tuple(dict.fromkeys(volume.name for service in services for volume in service.volumes))


def _members(
    workspace: Workspace, copy: Path, selection: Selection, volumes: Sequence[VolumeData], *, secrets: bool
) -> Iterator[Member]:
    """Yield all that is in a backup, in its order."""
    check, report = workspace.cancellation.check, workspace.report
    for stage, members in (
        ("the ledger", _file(LEDGER, copy)),
        (f"{len(selection.blobs)} blobs of images", _store(workspace, selection)),
        ("secrets, certificates, recordings", _state_files(workspace, secrets=secrets)),
        *((f"the volume {one}", one.members()) for one in volumes),
    ):
        report(Progress(stage="backup", text=stage, kind="running"))
        for member in members:
            check()
            yield member._replace(content=_checking(member.content, check))


def _checking(content: Callable[[], Any], check: Callable[[], None]) -> Callable[[], Iterator[bytes]]:
    def chunks() -> Iterator[bytes]:
        for chunk in content():
            check()
            yield chunk

    return chunks


def _store(workspace: Workspace, selection: Selection) -> Iterator[Member]:
    yield from _file(b"store/oci-layout", workspace.state.store / _LAYOUT)
    yield _bytes(b"store/index.json", selection.index)
    for digest, size in selection.blobs:
        name = b"store/blobs/sha256/" + digest.hex.encode()
        entry = Entry(name=name, kind=REGULAR, mode=0o400, size=size)
        yield Member(entry, functools.partial(workspace.store.chunks, digest))


def _state_files(workspace: Workspace, *, secrets: bool) -> Iterator[Member]:
    for name, path in _paths(workspace.state, secrets=secrets):
        yield from _file(name, path)
    yield from _file(MACHINE_FILE, machine_file(workspace.environ))
    yield from _file(NETWORK, workspace.state.network)


def _paths(state: StateDirectory, *, secrets: bool) -> Iterator[tuple[bytes, Path]]:
    """Yield the files of the state directory besides ledger and store, with their names in a backup."""
    if secrets:
        for path in _files(state.secrets):
            if _SECRET.fullmatch(path.name):
                yield b"secrets/" + os.fsencode(path.name), path
        for folder, _, names in os.walk(state.certificates):
            for one in sorted(names):
                path = Path(folder, one)
                if not one.startswith(".") and path.is_file() and not path.is_symlink():
                    yield os.fsencode(path.relative_to(state.root)), path
    for folder_path in (state.recordings, state.evidence):
        for path in _files(folder_path):
            yield os.fsencode(path.relative_to(state.root)), path


def _files(folder: Path) -> list[Path]:
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if not path.name.startswith(".") and path.is_file() and not path.is_symlink())


def _size_of(state: StateDirectory, *, secrets: bool) -> int:
    total = 0
    for _, path in _paths(state, secrets=secrets):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def _bytes(name: bytes, data: bytes) -> Member:
    return Member(Entry(name=name, kind=REGULAR, mode=0o600, size=len(data)), lambda: [data])


def _file(name: bytes, path: Path) -> Iterator[Member]:
    """Yield a file, as long as it is now; nothing where it is gone meanwhile."""
    try:
        file = durable.reader(path)
    except FileNotFoundError:
        return
    with file:
        size = os.fstat(file.fileno()).st_size

        def chunks() -> Iterator[bytes]:
            missing = size
            while missing and (chunk := file.read(min(missing, _CHUNK_BYTES))):
                missing -= len(chunk)
                yield chunk

        yield Member(Entry(name=name, kind=REGULAR, mode=0o600, size=size), chunks)
