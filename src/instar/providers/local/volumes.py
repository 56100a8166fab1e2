"""The volumes that this machine keeps, whether an environment has them still or not.

VOLUMES/SERVICE/ENVIRONMENT/NAME is one; what begins with a dot beside it belongs to it (``host/filesystems/sized.py``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from instar import process
from instar.errors import CommandFailed, NotFound
from instar.host.filesystems import sized, trees
from instar.model.release import EnvironmentId
from instar.providers.base import StoredVolume
from instar.providers.local.names import Names

_COUNT_TIMEOUT_S = 600.0


def stored(names: Names) -> Iterator[StoredVolume]:
    """Yield every volume, in the order of their names, with what it takes of the disk."""
    for parent in sorted(names.state.volumes.glob("*/*")):
        environment = EnvironmentId(service=parent.parent.name, name=parent.name)
        for name in sorted(sized.names(parent)):
            yield StoredVolume(
                environment=environment,
                name=name,
                where=str(parent / name),
                used_bytes=used_bytes(sized.kept_in(parent / name)),
            )


def stored_of(names: Names, environment: EnvironmentId) -> Iterator[StoredVolume]:
    """Yield those of one environment, without counting what they take."""
    parent = names.volumes(environment)
    for name in sorted(sized.names(parent)):
        yield StoredVolume(environment=environment, name=name, where=str(parent / name), used_bytes=None)


def remove(names: Names, environment: EnvironmentId, name: str) -> None:
    """Remove a volume with all that is in it. Raises NotFound, HostError."""
    folder = names.volumes(environment) / name
    if name not in sized.names(folder.parent):
        raise NotFound(
            f"cannot remove the volume '{name}' of '{environment}': there is none",
            hint="those that there are: instar volumes",
        )
    sized.remove(folder)
    _remove_empty(folder.parent)


def _remove_empty(folder: Path) -> None:
    if not any(entry.name != ".lock" for entry in folder.iterdir()):
        trees.remove(folder)
        with contextlib.suppress(OSError):
            folder.parent.rmdir()  # other environments of the service may have theirs in it


def used_bytes(folder: Path) -> int | None:
    """Return how many bytes of the disk a file or a tree takes, without what goes while it is counted; None where that
    cannot be told."""
    try:
        listed = process.run(["du", "-sx", "-B1", "--", folder], timeout_s=_COUNT_TIMEOUT_S, check=False)
    except CommandFailed:
        return None
    words = listed.stdout.split()
    return int(words[0]) if words else None
