"""Other ecosystems in a bake: what lock files name, installed in a step, or there to read for the lines of ``run``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instar.bake.root import ROOT, Root
from instar.errors import StepFailed
from instar.frozen import dataclass
from instar.model.digest import Digest

if TYPE_CHECKING:
    from instar.bake.scratch import Room
    from instar.ecosystems.found import EcosystemUse
    from instar.ecosystems.protocol import Installing, Offering
    from instar.fetch.cache import Cache
    from instar.model.lock import Artifact

_FILE = 0o644


def given(found: EcosystemUse[Installing], artifacts: Sequence[Artifact], path: str) -> dict[str, Any]:
    """Return the input of a step that installs ``artifacts``."""
    return {
        "use": found.ecosystem.given(found.use),
        "path": path,
        "files": {name: Digest.of(content) for name, content in sorted(found.manifest.files.items())},
        "artifacts": [[one.name, one.version, one.kind, one.sha256] for one in artifacts],
    }


def bake_install(found: EcosystemUse[Installing], artifacts: Sequence[Artifact], path: str, room: Room) -> None:
    """Install them. Raises StepFailed, FetchError, OSError."""
    with Root(room.root(), epoch=room.epoch) as root:
        found.ecosystem.install(found.use, found.manifest, artifacts, room.cache, path, _Inside(room, root))


@dataclass(frozen=True, kw_only=True)
class Offered:
    """What the lines of ``run`` have of ecosystems: folders to read, and an environment in which tools look there.

    ``identity`` is all that a line can see of it. The environment of an image or a stage goes before it.
    """

    all: tuple[tuple[Offering, tuple[Artifact, ...]], ...]
    environment: Mapping[str, str]
    identity: Any

    @classmethod
    def of(cls, found: Sequence[tuple[Offering, Sequence[Artifact]]]) -> Offered:
        """Several uses of one ecosystem share its folder."""
        together: dict[str, tuple[Offering, dict[tuple[str, ...], Artifact]]] = {}
        for ecosystem, artifacts in found:
            known = together.setdefault(ecosystem.name, (ecosystem, {}))[1]
            known |= {one.order: one for one in artifacts}
        whole = tuple((ecosystem, tuple(known[key] for key in sorted(known))) for ecosystem, known in together.values())
        environment = {name: value for one, _ in whole for name, value in one.environment().items()}
        files = [[list(one.order), one.sha256] for _, artifacts in whole for one in artifacts]
        return cls(all=whole, environment=environment, identity={"environment": environment, "files": files})

    @contextlib.contextmanager
    def shown(self, cache: Cache) -> Iterator[Mapping[str, Path]]:
        """Give what is seen: where → which file or folder. Raises BakeError, FetchError."""
        with cache.workspace() as folder:
            shown: dict[str, Path] = {}
            for ecosystem, artifacts in self.all:
                path = folder / ecosystem.name
                path.mkdir(mode=0o755)
                shown |= ecosystem.lay_out(artifacts, cache, path)
            yield shown


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
