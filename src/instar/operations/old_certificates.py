"""Removing certificates, with their keys, that no name here needs any more: by ``gc``.

Under the lock in which certificates are ordered, so that none of an order's is removed, and under the store's, in which
an environment gets its names. What the edge shows to nobody's use is not shown any more before it is removed.
"""

from __future__ import annotations

from collections.abc import Iterator

from instar import locks
from instar.certificates.renewals import now_utc
from instar.certificates.store import CertificateFolder, CertificateStore
from instar.certificates.unneeded import is_of_no_use
from instar.certificates.wanted import wanted_of
from instar.errors import EnvironmentBusy, HostError, RouterError
from instar.model.certificate import Source
from instar.model.progress import Progress
from instar.operations.certificates import doors_here, settings_here
from instar.operations.workspace import Workspace


def remove_old_certificates(workspace: Workspace, *, dry_run: bool, everything: bool = False) -> tuple[str, ...]:
    """Remove each certificate that no name needs, and that would be of use to none that came back; return them as
    SOURCE/NAME. The caller holds the store.

    ``everything``: also those that would be. All stay where it can't be told which the edge shows, or one is being
    ordered; one that can't be read or removed stays alone.
    """
    store = CertificateStore(workspace.state.certificates)
    if not any(True for _ in store.held()):
        return ()
    path = workspace.state.locks / "certificates"
    try:
        with locks.hold(path, "the certificates of this machine", inherited=False):
            return tuple(_remove(workspace, store, dry_run=dry_run, everything=everything))
    except (EnvironmentBusy, RouterError) as error:
        workspace.report(Progress(stage="note", text=f"certificates stay: {error}", kind="warning"))
        return ()


def _remove(workspace: Workspace, store: CertificateStore, *, dry_run: bool, everything: bool) -> Iterator[str]:
    wanted = [one for environment, settings in settings_here(workspace) for one in wanted_of(environment, settings)]
    needed = {(one.source, one.key) for one in wanted}
    shown = _shown(workspace, {name for one in wanted for name in one.names}, dry_run=dry_run)
    for source, folder in store.held():
        name = f"{source}/{folder.path.name}"
        if (source, folder.path.name) in needed:
            continue
        try:
            goes = _goes(source, folder, shown, everything=everything)
            if goes and not dry_run:
                folder.remove()
        except HostError as error:
            workspace.report(Progress(stage="note", text=f"certificate {name} stays: {error}", kind="warning"))
        else:
            if goes:
                yield name


def _goes(source: Source, folder: CertificateFolder, shown: set[str], *, everything: bool) -> bool:
    record = folder.record()
    if record.certificate is not None and record.certificate.fingerprint in shown:
        return False
    return everything or is_of_no_use(source, record, folder.written_at(), now_utc())


def _shown(workspace: Workspace, names: set[str], *, dry_run: bool) -> set[str]:
    """Have no certificate shown but for ``names``; return the fingerprints of those that are shown."""
    found = set[str]()
    for door in doors_here(workspace):
        served = door.served()
        gone = sorted(served.keys() - names)
        if gone and not dry_run:
            door.withdraw(gone)
        found |= {fingerprint for name, fingerprint in served.items() if name in names}
    return found
