"""Removing secrets that no kept release needs, here and in a shared ledger: what was rotated or destroyed is not kept.

By ``gc``, after a rollout and when an environment is destroyed, under the store's lock, in which releases are made: a
secret is kept there before the release that names it is written down. What runs has copies of its own.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from instar import locks
from instar.errors import EnvironmentBusy, InstarError
from instar.ledger.secrets import SecretName
from instar.model.progress import Progress
from instar.operations.locks import hold_needs
from instar.operations.retention import kept_releases
from instar.operations.workspace import Workspace

_SECRET = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = re.compile(r"\.[0-9a-z]+\.\d+")  # what a killed process was writing


def remove_old_secrets(workspace: Workspace, *, dry_run: bool = False) -> int:
    """Remove every secret that no kept release has; return how many. The caller holds the store."""
    ledger = workspace.ledger
    with hold_needs(workspace, to_remove=True):
        with ledger.transaction():
            needed = {
                SecretName(release.environment, name, digest)
                for release in kept_releases(ledger)
                for name, digest in release.configuration.secrets.items()
            }
            taken_out = ledger.remove_secrets(needed, dry_run=dry_run)
        digests = {secret.digest.hex for secret in needed}
        gone = [path for path in _files(workspace) if path.name not in digests]
        for path in gone if not dry_run else ():
            path.unlink(missing_ok=True)
    return len({path.name for path in gone if _SECRET.fullmatch(path.name)} | {digest.hex for digest in taken_out})


def remove_old_secrets_if_free(workspace: Workspace) -> None:
    """Do it, unless somebody makes a release just now: then the next one does. What was to be done before is done,
    whatever becomes of this."""
    if not workspace.ledger.shared and not any(True for _ in _files(workspace)):
        return
    try:
        with contextlib.suppress(EnvironmentBusy), locks.hold(workspace.state.locks / "gc", "the image store"):
            remove_old_secrets(workspace)
    except (InstarError, OSError) as error:
        text = f"secrets that no release needs are still there: {error}; instar gc tries again"
        workspace.report(Progress(stage="note", text=text, kind="warning"))


def _files(workspace: Workspace) -> list[Path]:
    folder = workspace.state.secrets
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if _SECRET.fullmatch(path.name) or _UNFINISHED.fullmatch(path.name))
