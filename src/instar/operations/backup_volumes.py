"""The data of this machine's volumes, for a backup: of running services too, as it is found."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import field

from instar.backup.trees import Tree
from instar.backup.writing import Member
from instar.entry_points import provider_names
from instar.errors import BackupError, NotFound
from instar.frozen import dataclass
from instar.model.release import EnvironmentId
from instar.operations.installed import find_provider
from instar.operations.privilege import require_root
from instar.operations.workspace import Workspace
from instar.providers.facets import Snapshots


@dataclass(frozen=True, kw_only=True, slots=True)
class VolumeData:
    """One volume, which ``keeper`` shows. Prints as SERVICE/ENV NAME. ``left_out``: what was not among its members,
    once they were read, of each kind how many; ``lost``: which data was not."""

    environment: EnvironmentId
    name: str
    keeper: Snapshots
    size_bytes: int
    left_out: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.environment} {self.name}"

    def members(self) -> Iterator[Member]:
        """Yield all that is in it; nothing where it was removed meanwhile. Raises BackupError."""
        path = f"volumes/{self.environment}/{self.name}/"
        try:
            with self.keeper.shown(self.environment, self.name) as folder:
                tree = Tree(folder, os.fsencode(path))
                yield from tree.members()
                self.left_out.update(tree.left_out)
                self.lost.extend(tree.lost)
        except NotFound:
            return
        except OSError as error:
            cause = (error.strerror or str(error)).lower()
            raise BackupError(f"cannot back up the volume '{self.name}' of '{self.environment}': {cause}") from error


def stored_volumes(workspace: Workspace) -> tuple[VolumeData, ...]:
    """Return every volume that is on this machine, also of environments that are gone. Raises NotRoot, HostError."""
    require_root("backup --volumes", "it reads what services have written")
    found = list[VolumeData]()
    for name in provider_names():
        provider = find_provider(workspace, name) if workspace.machine_of(name) is not None else None
        keeper = provider.volumes if provider is not None else None
        if keeper is None or keeper.snapshots is None:
            continue
        found += [
            VolumeData(
                environment=one.environment,
                name=one.name,
                keeper=keeper.snapshots,
                size_bytes=one.used_bytes or 0,
            )
            for one in keeper.volumes()
        ]
    return tuple(found)
