"""``instar restore``: a state directory from a backup, whole or not at all.

STATE/.restore/          while it is there, no command works with the state directory
├── …                    what was read of the backup, under the names that it will have
├── before/              what was in the way and had nothing in it (the ledger that a look at an empty machine makes)
└── complete             the backup's id: all is there and was checked, and is being moved into its place

Killed before ``complete`` is there, it begins anew when it is asked again; after that, it goes on with the moves. The
ledger is moved last; then ``.restore`` gets another name, and is gone. Nothing is started: that is the agent's to do.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from instar import durable, locks, process
from instar.backup import reading
from instar.backup.contents import LEDGER, MACHINE_FILE, NETWORK, Lost, Summary, blob_of, is_of_volumes
from instar.backup.outcomes import Checked, MachineFile, Restored
from instar.backup.reading import Backup
from instar.backup.trees import Planting
from instar.errors import CommandFailed, HostError, Refused
from instar.ledger import Ledger
from instar.model.codec import canonical, parse, to_json
from instar.model.digest import Digest
from instar.model.happenings import LedgerRestored
from instar.model.progress import Progress
from instar.model.state import StateDirectory, machine_file
from instar.operations import restore_shared
from instar.operations.ledger import require_readable
from instar.operations.restore_rules import (
    WhichMachine,
    require_alone,
    require_images,
    require_known,
    require_nothing,
    require_room,
    runs_on,
)
from instar.operations.workspace import Workspace

Identities = Callable[[], Sequence[Any]]

_COMPLETE: Final = "complete"
_BEFORE: Final = "before"
_LOST: Final = "lost.json"
_REMOVED_S: Final = 3_600.0
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def half_done(state: StateDirectory) -> Refused:
    """Return the refusal to work with a state directory that a restore is not done with."""
    hint = "go on with it: instar restore FILE, with the same one"
    if not (state.restore / _COMPLETE).exists():
        hint += f"; or, to have nothing restored: rm -r '{state.restore}'"
    return Refused(f"cannot work with '{state.root}': a restore is not done with it", hint=hint)


def check_backup(file: Path, identities: Identities, folder: Path) -> Checked:
    """Read a backup to its end, and verify its ledger, a copy of which is in ``folder`` meanwhile. Raises BackupError
    and its kinds, LedgerDamaged."""
    with reading.opened(file, identities) as backup:
        require_known(backup.summary, file)
        seen = set[Digest]()
        for entry, content in backup.members():
            if entry.name == LEDGER:
                _write(folder / "instar.db", content)
            elif (digest := blob_of(entry)) is not None:
                seen.add(digest)
        with Ledger(folder / "instar.db", actor="instar") as ledger:
            events = len(ledger.history())
            ledger.verify()
        require_images(backup.summary, seen, file)
        return Checked(
            summary=backup.summary, encrypted=backup.encrypted, parts=backup.parts, events=events, lost=backup.lost
        )


def restore(
    workspace: Workspace,
    file: Path,
    identities: Identities,
    *,
    machine: WhichMachine,
    alone: bool,
    wants_machine_file: Callable[[Path, str], bool],
) -> Restored:
    """Make this machine's state directory what the backup in ``file`` has. Nothing runs afterwards.

    ``machine``: whether it is the same machine as before for those who share a ledger, and marks what is its own with
    the same digits. ``alone``: somebody says that the original is gone. ``wants_machine_file`` is asked, with where it
    goes and what it says, whether the machine's own file of the backup is put where there is none: root runs what it
    names. What it raises leaves all as it was. Raises Refused where something is here already,
    or the original may act beside it; HostError without room; BackupError and its kinds, LedgerDamaged.
    """
    state = workspace.state
    with reading.opened(file, identities) as backup:
        require_known(backup.summary, file)
        require_alone(workspace, backup.summary, machine, alone=alone)
        if backup.summary.shared is not None:
            restore_shared.require_fit(workspace, backup.summary, keep=machine == "same", alone=alone)
        with _as_it_was(workspace), locks.hold(state.locks / "restore", "a restore"):
            for left in durable.leftovers(state.root):
                if left.name.startswith(f"{state.restore.name}."):
                    _remove(left)
            left_out = False
            if not _is_complete(state, backup.summary):
                require_nothing(workspace, backup.summary)
                with _undone_unless_complete(state):
                    _read(workspace, backup, file)
                    left_out = _left_machine_file(workspace, wants_machine_file)
                    _settle(workspace, backup.summary, machine, alone=alone)
            else:
                workspace.report(Progress(stage="restore", text="goes on where it was interrupted"))
            kept_volumes = state.volumes.is_dir() and any(state.volumes.iterdir())
            lost = _lost(state)
            was: MachineFile = "left" if left_out else _machine_file(workspace, state.restore)
            _move_in(state)
    return Restored(
        summary=backup.summary,
        state_id=workspace.find_state_id(),
        machine_file=was,
        kept_volumes=kept_volumes,
        missing=() if backup.summary.shared is None else restore_shared.missing_images(workspace),
        lost=lost,
        beside=_original(state, backup.summary) if machine == "new" else None,
    )


@contextlib.contextmanager
def _as_it_was(workspace: Workspace) -> Iterator[None]:
    """Have a state directory inside; where that fails and there was none, leave nothing of it."""
    state = workspace.state
    made = [folder for folder in (state.run, state.root) if not folder.exists()]
    workspace.make_state()
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # what has something in it by now stays
            if state.run in made:
                (state.locks / "restore").unlink(missing_ok=True)
                state.locks.rmdir()
            for folder in made:
                folder.rmdir()
        raise


def _original(state: StateDirectory, summary: Summary) -> str | None:
    """Return where the state directory is that a backup is of, where that is on this machine."""
    original = Path(summary.state)
    with contextlib.suppress(OSError):
        if original != state.root and durable.read_text(original / "id").strip() == summary.state_id:
            return summary.state
    return None


def _remove(folder: Path) -> None:
    """Remove what a restore has made, however deep; what is left of it is removed by the next one."""
    with contextlib.suppress(CommandFailed):
        process.run(["rm", "-rf", "--one-file-system", "--", folder], timeout_s=_REMOVED_S)


@contextlib.contextmanager
def _undone_unless_complete(state: StateDirectory) -> Iterator[None]:
    """Leave nothing of a restore that fails inside: the machine is as it was, for another backup to be tried."""
    try:
        yield
    finally:
        if not (state.restore / _COMPLETE).exists():
            _remove(state.restore)


def _is_complete(state: StateDirectory, summary: Summary) -> bool:
    """Tell whether a restore of the same backup has all that it needs. Raises Refused for one of another's."""
    try:
        known, _, at = durable.read_text(state.restore / _COMPLETE).partition(" ")
    except FileNotFoundError:
        return False
    if known != summary.id:
        raise Refused(
            f"cannot restore it: a restore of another backup, made {at.strip()}, is half done here",
            hint="ask again with that one",
        )
    return True


def _read(workspace: Workspace, backup: Backup, file: Path) -> None:
    """Have all of the backup in ``.restore``, checked."""
    state, summary = workspace.state, backup.summary
    require_room(summary, state.root, file)
    made = state.restore
    try:
        if made.exists():
            _remove(made)
        made.mkdir(mode=0o700)
        seen = _unpack(workspace, backup, made)
    except OSError as error:
        raise _refused(state.root, error) from error
    if backup.lost:
        durable.write(made / _LOST, canonical(backup.lost))
    require_images(summary, seen, file)
    from instar.definition.kept import require_kept  # all commands import this, and few read a definition

    with Ledger(made / "ledger" / "instar.db", actor=workspace.actor, check=require_kept) as ledger:
        ledger.verify()
        require_readable(ledger)
    workspace.report(Progress(stage="restore", text="all of it is whole; its ledger is verified"))


def _unpack(workspace: Workspace, backup: Backup, made: Path) -> set[Digest]:
    """Write all members below ``made``; return which blobs there are. Raises OSError, and what reading raises."""
    seen = set[Digest]()
    with contextlib.closing(Planting(made)) as planting:
        for entry, content in backup.members():
            workspace.cancellation.check()
            digest = blob_of(entry)
            if digest is not None:
                seen.add(digest)
            if is_of_volumes(entry):
                planting.add(entry, content)
            else:
                _write(made / os.fsdecode(entry.name), content, mode=0o400 if digest else 0o600)
    return seen


def _lost(state: StateDirectory) -> Lost:
    """Return which data of volumes the backup has not, as it is being restored."""
    try:
        return {str(one): tuple(map(str, texts)) for one, texts in parse(durable.read(state.restore / _LOST)).items()}
    except FileNotFoundError:
        return {}


def _settle(workspace: Workspace, summary: Summary, machine: WhichMachine, *, alone: bool) -> None:
    """Write who this machine is, and what its ledger goes on from; then what was read is complete."""
    made, taken_at = workspace.state.restore, str(to_json(summary.at))
    name = summary.machine if machine == "same" else workspace.machine
    restored = LedgerRestored(taken_at=taken_at, taken_on=summary.machine, machine=name)
    if summary.shared is not None:
        with _machine_file_unless_refused(workspace, made):  # it may name the ledger
            restore_shared.settle(workspace, summary, made, restored, alone=alone)
    else:
        with Ledger(made / "ledger" / "instar.db", actor=workspace.actor) as ledger:
            ledger.record(restored)
    kept = summary.state_id if machine == "same" else None
    try:
        network = made / os.fsdecode(NETWORK)
        if kept is not None and runs_on(workspace.state, summary) and network.exists():
            network.rename(made / workspace.state.network.name)
        durable.write(made / "id", f"{kept or os.urandom(3).hex()}\n".encode(), mode=0o644)
        os.sync()
        durable.write(made / _COMPLETE, f"{summary.id} {taken_at}\n".encode())
        durable.sync(workspace.state.root)
    except OSError as error:
        raise _refused(workspace.state.root, error) from error


def _write(path: Path, content: Iterator[tuple[int, memoryview]], *, mode: int = 0o600) -> None:
    for folder in reversed([one for one in path.parents if not one.exists()]):
        folder.mkdir(mode=0o700)
    with os.fdopen(os.open(path, _NEW, mode), "wb") as file:
        for _, piece in content:
            file.write(piece)


def _refused(root: Path, error: OSError) -> HostError:
    return HostError(
        f"cannot restore into '{root}': {(error.strerror or str(error)).lower()}",
        hint="nothing of it is in its place yet; ask again when that is put right: it begins anew",
    )


def _left_machine_file(workspace: Workspace, wanted: Callable[[Path, str], bool]) -> bool:
    """Ask about the machine's own file where there is none; tell whether it is left out. Who is killed after that, and
    before all is complete, is asked again."""
    path, found = machine_file(workspace.environ), workspace.state.restore / os.fsdecode(MACHINE_FILE)
    if os.path.lexists(path) or not found.exists():
        return False
    if wanted(path, durable.read(found).decode("utf-8", "replace")):
        return False
    found.unlink()
    return True


def _machine_file(workspace: Workspace, made: Path) -> MachineFile:
    """Put the machine's own file in its place, where there is none."""
    path, found = machine_file(workspace.environ), made / os.fsdecode(MACHINE_FILE)
    try:
        data = durable.read(found)
    except FileNotFoundError:
        return "none"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write_once(path, data, mode=0o644)
        return "there" if durable.read(path) == data else "other"
    except OSError:
        return "unwritten"


@contextlib.contextmanager
def _machine_file_unless_refused(workspace: Workspace, made: Path) -> Iterator[None]:
    """Put the machine's own file in its place, and take it away again where the restore is refused."""
    path = machine_file(workspace.environ)
    had_one = os.path.lexists(path)
    _machine_file(workspace, made)
    try:
        yield
    except BaseException:
        if not had_one:
            path.unlink(missing_ok=True)
        raise


def _move_in(state: StateDirectory) -> None:
    """Move what is in ``.restore`` to where it belongs; killed anywhere, it goes on when it is called again."""
    try:
        (state.restore / _BEFORE).mkdir(mode=0o700, exist_ok=True)
        for name in state.own_names:
            made, to = state.restore / name, state.root / name
            if not os.path.lexists(made):
                continue
            if os.path.lexists(to):
                to.rename(state.restore / _BEFORE / name)
            made.rename(to)
        durable.sync(state.root)
        done = state.root / f".restore.{os.urandom(8).hex()}"
        state.restore.rename(done)
        durable.sync(state.root)
    except OSError as error:
        raise HostError(
            f"cannot restore into '{state.root}': {(error.strerror or str(error)).lower()}",
            hint="ask again when that is put right: it goes on",
        ) from error
    _remove(done)
