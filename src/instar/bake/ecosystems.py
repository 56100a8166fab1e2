"""The steps of other ecosystems: what their lock files name, installed by the image's own tool in the sandbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instar.bake.root import ROOT, Root
from instar.errors import StepFailed
from instar.model.digest import Digest

if TYPE_CHECKING:
    from instar.bake.scratch import Room
    from instar.ecosystems.found import Found
    from instar.ecosystems.protocol import Installing
    from instar.model.lock import Artifact

_FILE = 0o644


def given(found: Found[Installing], artifacts: Sequence[Artifact], path: str) -> dict[str, Any]:
    """Return the input of a step that installs ``artifacts``."""
    return {
        "use": found.ecosystem.given(found.use),
        "path": path,
        "files": {name: Digest.of(content) for name, content in sorted(found.manifest.files.items())},
        "artifacts": [[one.name, one.version, one.kind, one.sha256] for one in artifacts],
    }


def bake_install(found: Found[Installing], artifacts: Sequence[Artifact], path: str, room: Room) -> None:
    """Install them. Raises StepFailed, FetchError, OSError."""
    with Root(room.root(), epoch=room.epoch) as root:
        found.ecosystem.install(found.use, found.manifest, artifacts, room.cache, path, _Inside(room, root))


class _Inside:
    """A :class:`~instar.ecosystems.protocol.Workroom`."""

    def __init__(self, room: Room, root: Root) -> None:
        self._room = room
        self._root = root

    def exists(self, path: str) -> bool:
        return self._root.exists(path)

    def put(self, path: str, content: bytes) -> None:
        self._root.make_directory(path.rpartition("/")[0])
        self._root.put(path, [content], owner=ROOT, mode=_FILE)

    def run(self, argv: Sequence[str], *, env: Mapping[str, str], shown: Mapping[str, Path]) -> None:
        self._room.run(argv, env=env, shown=shown)

    def say(self, text: str) -> None:
        self._room.say(text)

    def failed(self, cause: str, *, hint: str | None = None) -> StepFailed:
        return self._room.failed(cause, hint=hint)
