"""A restore on a machine that shares its ledger: the ledger is mostly still there, and newer than the backup.

Where the database that is named here has that very ledger, it stays as it is, and the machine goes on in it. Where it
has nothing yet, since the database is gone as well, it is filled from the backup. Anything else is refused.
"""

from __future__ import annotations

from pathlib import Path

from instar import durable
from instar.backup.contents import Summary
from instar.errors import Refused
from instar.ledger import Ledger
from instar.ledger.boots import SILENT_FOR_S, heard
from instar.ledger.copying import fill
from instar.model.happenings import LedgerRestored
from instar.model.progress import Progress
from instar.operations.locks import is_here
from instar.operations.machine_name import own_name
from instar.operations.workspace import Workspace

_GONE = "then say so: --original-is-gone"


def require_fit(workspace: Workspace, summary: Summary, *, keep: bool, alone: bool) -> None:
    """Raise Refused where the database that is named here cannot be the backup's ledger, or the machine that it is of
    acts in it. None that is named is fine as yet: the backup's own file may name it. Raises LedgerUnreachable."""
    address = workspace.named_ledger()
    if address is not None:
        with _opened(workspace, address) as ledger:
            _require_fit(ledger, summary, keep=keep, alone=alone)


def settle(workspace: Workspace, summary: Summary, made: Path, restored: LedgerRestored, *, alone: bool) -> None:
    """Have the named database go on as the ledger of what was read into ``made``, whose own copy goes. Can be done
    again."""
    address = workspace.named_ledger()
    if address is None:
        raise Refused(
            f"cannot restore: the machine shared its ledger, then at {summary.shared}, and nothing here names one",
            hint="nothing is in its place yet. INSTAR_LEDGER=postgresql://… names it, or 'ledger' in the machine's "
            "file; where the database is gone too, an empty one is filled from the backup",
        )
    keep = restored.machine == summary.machine
    copy = made / "ledger" / "instar.db"
    with _opened(workspace, address) as ledger:
        _require_fit(ledger, summary, keep=keep, alone=alone)
        if not ledger.identity():
            with Ledger(copy, actor=workspace.actor) as source:
                fill(source, ledger, restored)
            workspace.report(Progress(stage="restore", text=f"{ledger.address} had nothing, and has the ledger now"))
        durable.write(made / workspace.state.shared_ledger.name, f"{ledger.identity()}\n{ledger.address}\n".encode())
    if keep and summary.machine != own_name(workspace.state):
        durable.write(made / workspace.state.machine_name.name, f"{summary.machine}\n".encode(), mode=0o644)
    copy.unlink()
    copy.parent.rmdir()


def missing_images(workspace: Workspace) -> tuple[str, ...]:
    """Return the environments of this machine whose active release was made after the backup: its image is not here."""
    there, ledger = set(workspace.store.digests()), workspace.ledger
    own = (one for one in ledger.environments() if one.machine is not None and is_here(workspace, one))
    return tuple(
        str(one.id)
        for one in own
        if one.active is not None and ledger.get_release(one.id, one.active).image not in there
    )


def _opened(workspace: Workspace, address: str) -> Ledger:
    from instar.definition.kept import require_kept  # all commands import this, and few read a definition

    return Ledger(address, actor=workspace.actor, check=require_kept)


def _require_fit(ledger: Ledger, summary: Summary, *, keep: bool, alone: bool) -> None:
    found = ledger.identity()
    if found and found != summary.ledger:
        raise Refused(
            f"cannot restore into {ledger.address}: it is another ledger than the backup's, then at {summary.shared}",
            hint="name that one; or, where its database is gone, one that has nothing yet",
        )
    if alone:
        return
    if not found:
        raise Refused(
            f"cannot fill {ledger.address} from the backup: where the ledger that it is of, then at {summary.shared}, "
            "is still there, two would go on from one",
            hint=f"name that one; where its database is gone for good, {_GONE}",
        )
    at, rested_s = heard(ledger.session, summary.machine)
    if keep and at is not None and rested_s < SILENT_FOR_S:
        raise Refused(
            f"cannot restore as {summary.machine}: it acted last {max(rested_s, 0):.0f} s ago, and may still be there",
            hint=f"end it, {_GONE}; as another machine beside it: --machine new",
        )
