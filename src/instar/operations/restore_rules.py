"""What has to be so before anything is restored: the backup is whole and known, its original gone, and here is room."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from pathlib import Path
from typing import Final, Literal

from instar import durable
from instar.backup.contents import Summary
from instar.errors import BackupError, BackupNewer, HostError, InstarError, Refused
from instar.ledger import Ledger
from instar.ledger.schema import latest
from instar.model.digest import Digest
from instar.model.sizes import size_text
from instar.model.state import StateDirectory
from instar.operations.locks import agent_pid
from instar.operations.workspace import Workspace
from instar.store.room import free_room

WhichMachine = Literal["same", "new"]
_MARKS: Final = Path("/run")  # what is global to the host has the state directory's id in its name there
_DERIVED: Final = ("layers", "steps", "cache")  # known by their hashes, and made again: an rm -r may have left some


_IMMATERIAL: Final = (
    "crashes",
    "notified",
    "shared-ledger",
)  # what a command leaves on a machine on which nothing was done yet


def require_known(summary: Summary, file: Path) -> None:
    if summary.schema > latest("sqlite"):
        raise BackupNewer(
            f"cannot use the backup '{file}': Instar {summary.version} made it, whose ledger has schema "
            f"{summary.schema}; this one knows {latest('sqlite')}",
            hint="restore it with that version of Instar, or a newer one; nothing was changed",
        )


def require_images(summary: Summary, seen: Collection[Digest], file: Path) -> None:
    """Raise BackupError where the image of an active release that ran on the machine is not there."""
    for one in summary.environments:
        here = one.of_one_machine and one.machine in (None, summary.machine)
        if here and one.image is not None and one.image not in seen:
            raise BackupError(f"cannot use the backup '{file}': it lacks the image of '{one.name}', {one.image}")


def require_alone(workspace: Workspace, summary: Summary, machine: WhichMachine, *, alone: bool) -> None:
    """Raise Refused where the machine that the backup is of could act beside this one, and nobody has said that it is
    gone."""
    again = "end it there first (instar uninstall), if it still is; then say so: --original-is-gone"
    apart = [one.name for one in summary.environments if not one.of_one_machine]
    if summary.shared is None and apart and not alone:
        raise Refused(
            f"cannot restore '{apart[0]}' beside its original: nothing but the ledger of {summary.machine} says what "
            "runs there, and two copies of it would both act",
            hint=again,
        )
    if machine == "new" or summary.state_id is None:
        return
    original = Path(summary.state)
    if original == workspace.state.root:
        return  # what carries its digits here is its own
    with contextlib.suppress(OSError):
        if durable.read_text(original / "id").strip() == summary.state_id:
            raise Refused(
                f"cannot restore it as the very machine that it was of: '{original}' is here still",
                hint="beside that one: --machine new; what runs there goes on",
            )
    if (_MARKS / f"instar-{summary.state_id}").exists():
        raise Refused(
            "cannot restore it as the very machine that it was of: something here carries its mark, "
            f"{summary.state_id}",
            hint=f"ls -d {_MARKS}/instar-{summary.state_id}; beside it: --machine new",
        )


def runs_on(state: StateDirectory, summary: Summary) -> bool:
    """Tell whether what the original made on this machine still runs: somebody removed its files alone."""
    return Path(summary.state) == state.root and (_MARKS / f"instar-{summary.state_id}").exists()


def require_nothing(workspace: Workspace, summary: Summary) -> None:
    """Raise Refused where the state directory has anything, but for volumes that an uninstall has left."""
    state = workspace.state
    agent = agent_pid(workspace)
    if agent is not None:
        raise Refused(
            f"cannot restore: the agent (process {agent}) works here",
            hint="end it first: systemctl stop instar-agent; start it again afterwards",
        )
    found = _find_something(state, with_volumes=summary.volumes is not None)
    if found is not None:
        raise Refused(
            f"cannot restore into '{state.root}': there is something already: {found}",
            hint="nothing was changed. Into an empty one: INSTAR_HOME=DIRECTORY instar restore FILE; or, if what is "
            "there may go: instar uninstall, which leaves volumes; with --volumes it removes them too, and their "
            "snapshots, with all data in them",
        )


def _find_something(state: StateDirectory, *, with_volumes: bool) -> str | None:
    """Say what is there that would be lost; None where there is nothing but what a look leaves behind."""
    if state.ledger.exists():
        try:
            with Ledger(state.ledger, actor="instar") as ledger:
                last = ledger.history(last=1)
            if last and last[0].kind == "ledger-restored":
                return f"what was restored of the backup made {last[0].detail['taken_at']}, whole"
            if last:
                return f"a ledger with a history, '{state.ledger}'"
        except InstarError as error:
            return f"'{state.ledger}' ({error.message})"
    immaterial = {*_IMMATERIAL, *_DERIVED, state.ledger.parent.name, state.id_file.name, state.store.name}
    immaterial.add(state.left_mark.name)
    immaterial |= {state.snapshots.name} if with_volumes else {state.volumes.name, state.snapshots.name}
    for name in (*state.own_names, "store/blobs/sha256"):
        if name not in immaterial and (found := _first_file(state.root / name)) is not None:
            return f"'{found}'"
    return None


def _first_file(path: Path) -> Path | None:
    if not path.is_dir():
        return path if os.path.lexists(path) else None
    return next((Path(folder, names[0]) for folder, _, names in os.walk(path) if names), None)


def require_room(summary: Summary, root: Path, file: Path) -> None:
    needed, mount, free = summary.size_bytes, *free_room(root)
    if needed > free:
        raise HostError(
            f"cannot restore '{file}': {size_text(needed)} are to come, and the file system at '{mount}' has room for "
            f"{size_text(free)}",
            hint="nothing was changed; free space there, or restore elsewhere: INSTAR_HOME=DIRECTORY",
        )
