"""Removing secrets that no kept release needs: what was rotated or destroyed is not kept in plain text.

By ``gc``, after a rollout and when an environment is destroyed, under the store's lock, in which releases are made: a
secret is kept there before the release that names it is written down. What runs has copies of its own.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from instar import locks
from instar.errors import EnvironmentBusy, InstarError, Refused
from instar.model.progress import Progress
from instar.model.release import Release
from instar.operations.retention import kept_releases
from instar.operations.workspace import Workspace

_SECRET = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = re.compile(r"\.[0-9a-z]+\.\d+")  # what a killed process was writing


def remove_old_secrets(workspace: Workspace, *, dry_run: bool = False) -> int:
    """Remove every secret that no kept release has; return how many. The caller holds the store."""
    with workspace.ledger.transaction():  # in which a rollback looks for those that it needs
        needed = {
            digest.hex for release in kept_releases(workspace) for digest in release.configuration.secrets.values()
        }
        gone = [path for path in _files(workspace) if path.name not in needed]
        for path in gone if not dry_run else ():
            path.unlink(missing_ok=True)
    return sum(1 for path in gone if _SECRET.fullmatch(path.name))


def remove_old_secrets_if_free(workspace: Workspace) -> None:
    """Do it, unless somebody makes a release just now: then the next one does. What was to be done before is done,
    whatever becomes of this."""
    if not any(True for _ in _files(workspace)):
        return
    try:
        with contextlib.suppress(EnvironmentBusy), locks.hold(workspace.state.locks / "gc", "the image store"):
            remove_old_secrets(workspace)
    except (InstarError, OSError) as error:
        text = f"secrets that no release needs are still there: {error}; instar gc tries again"
        workspace.report(Progress(stage="note", text=text, kind="warning"))


def require_secrets(workspace: Workspace, release: Release) -> None:
    """Raise Refused when a secret of ``release`` is gone."""
    for name, digest in release.configuration.secrets.items():
        if not workspace.state.secret(digest).exists():
            raise Refused(
                f"cannot go to release {release.number}: its secret '{name}' was removed when it was no longer needed",
                hint="deploy makes a new release with the present one; keep.releases says how many are kept",
            )


def _files(workspace: Workspace) -> list[Path]:
    folder = workspace.state.secrets
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if _SECRET.fullmatch(path.name) or _UNFINISHED.fullmatch(path.name))
