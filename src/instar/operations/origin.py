"""Where a release comes from: asked of git, of who calls, and of the machine.

git is asked as whoever has the definition's folder, never as root for somebody else: what stands in a repository's
configuration may name programs that git runs.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from instar import process
from instar.definition import Loaded
from instar.errors import CommandFailed, ComponentMissing
from instar.model.origin import MESSAGE_LIMIT, Commit, Origin, Promotion
from instar.model.printable import printable
from instar.model.progress import Progress
from instar.model.release import Release
from instar.operations.workspace import Workspace

_TIMEOUT_S: Final = 10
_GIT: Final = ("git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
_STATUS: Final = ("status", "--porcelain=v2", "--branch", "--untracked-files=normal", "--", ".")
_DETACHED: Final = "(detached)"
_NO_COMMIT: Final = "(initial)"
_HEAD, _BRANCH = "# branch.oid ", "# branch.head "


def origin_of(workspace: Workspace, message: str | None, loaded: Loaded | None = None) -> Origin:
    """Return where a release comes from that is made now; ``loaded`` is what its image is baked from, None: nothing."""
    commit = None if loaded is None else commit_of(workspace, loaded.folder)
    return Origin(by=_line(workspace.actor), machine=_line(workspace.machine), message=_message(message), commit=commit)


def origin_of_promoted(workspace: Workspace, message: str | None, source: Release) -> Origin:
    """Return where a release comes from that has the image of ``source``: the commit of that, and why of either."""
    before = source.origin
    return Origin(
        by=_line(workspace.actor),
        machine=_line(workspace.machine),
        message=_message(message) or (before.message if before else None),
        commit=before.commit if before else None,
        promoted=Promotion(environment=source.environment.name, release=source.number),
    )


def origin_of_again(workspace: Workspace, message: str, source: Release) -> Origin:
    """Return where a release comes from that is made of ``source``, in the same environment."""
    commit = source.origin.commit if source.origin else None
    return Origin(by=_line(workspace.actor), machine=_line(workspace.machine), message=_message(message), commit=commit)


def commit_of(workspace: Workspace, folder: Path) -> Commit | None:
    """Return the commit that ``folder`` is at, None where it is in no repository or git does not say."""
    if not any((above / ".git").exists() for above in (folder.resolve(), *folder.resolve().parents)):
        return None
    try:
        done = process.run([*_as_owner(folder), *_GIT, *_STATUS], cwd=folder, timeout_s=_TIMEOUT_S, alone=True)
    except ComponentMissing:
        return None
    except CommandFailed as error:
        cause = next(iter(error.output.strip().splitlines()), error.message)
        text = f"the release does not say of which commit it is: {_line(cause)}"
        workspace.report(Progress(stage="note", text=text, kind="warning"))
        return None
    return _read(done.stdout.decode("utf-8", "replace"))


def _as_owner(folder: Path) -> tuple[str, ...]:
    """Return what runs a command as the owner of ``folder``, without any right of root's: nothing where nobody else
    has it."""
    status = folder.stat()
    if os.geteuid() != 0 or status.st_uid == 0:
        return ()
    ids = (f"--reuid={status.st_uid}", f"--regid={status.st_gid}", "--clear-groups")
    return ("setpriv", *ids, "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--")


def _read(said: str) -> Commit | None:
    lines = said.splitlines()
    head = next((line.removeprefix(_HEAD) for line in lines if line.startswith(_HEAD)), _NO_COMMIT)
    branch = next((line.removeprefix(_BRANCH) for line in lines if line.startswith(_BRANCH)), _DETACHED)
    if head == _NO_COMMIT:
        return None
    clean = all(line.startswith("# ") for line in lines)
    return Commit(id=_line(head), branch=None if branch == _DETACHED else _line(branch), clean=clean)


def _message(text: str | None) -> str | None:
    return _line(text) if text and text.strip() else None


def _line(text: str) -> str:
    """Return a text as one line that can be shown, cut where it is too long."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= MESSAGE_LIMIT else line[: MESSAGE_LIMIT - 1] + "…"
