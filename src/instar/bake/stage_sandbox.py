"""A sandbox on what a stage left: code of others runs in it as nobody, and nothing of what it writes is kept."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from instar.bake import scratch
from instar.bake.answering import answering
from instar.bake.root import Root
from instar.bake.scratch import Room
from instar.ecosystems.protocol import BUILD_FOLDER, DOOR, Answers
from instar.errors import StepFailed
from instar.host.network.closed import closed_network
from instar.model.image import Layer
from instar.model.lock import Lock
from instar.model.progress import Report

if TYPE_CHECKING:
    from instar.fetch.cache import Cache
    from instar.store.mountable import MountableLayers

NOBODY: Final = (65534, 65534)
_NO_NETWORK: Final = re.compile(
    r"(?i)name resolution|name or service not known|network is unreachable|connection refused|"
    r"nodename nor servname|could not resolve|failed to resolve|unknownhostexception|no address associated"
)


@contextlib.contextmanager
def opened(
    left: Sequence[Layer],
    *,
    steps: Path,
    mark: str,
    lock: Lock,
    cache: Cache,
    layers: MountableLayers,
    report: Report,
    place: str,
    verb: str,
    what: str,
    env: Mapping[str, str],
) -> Iterator[StageSandbox]:
    """Give a sandbox on the layers that a stage left, from the lowest up; ``lock`` is the stage's own, ``env`` the
    environment of its lines.

    Raises HostError, OSError.
    """
    with scratch.opened(steps, mark) as made:
        room = Room(
            scratch=made,
            number=0,
            step=what,
            place=place,
            small=False,
            lowers=lambda: [layers.mount(layer) for layer in reversed(left)],
            stages=_no_stage,
            user=None,
            cache=cache,
            epoch=lock.epoch,
            bake_format=lock.bake_format,
            architecture=lock.architecture,
            declared=False,
            report=report,
            verb=verb,
        )
        try:
            with Root(room.root(), epoch=room.epoch) as root:
                root.make_directory(BUILD_FOLDER, owner=NOBODY)
                yield StageSandbox(room, root, env)
        finally:
            room.close()


class StageSandbox:
    """A :class:`~instar.ecosystems.protocol.StageSandbox`."""

    def __init__(self, room: Room, root: Root, env: Mapping[str, str]) -> None:
        self._env = env
        self._room = room
        self._root = root
        self.epoch = room.epoch
        self.failed: Callable[..., StepFailed] = room.failed

    def exists(self, path: str) -> bool:
        return self._root.exists(path)

    def read(self, path: str, limit_bytes: int) -> bytes | None:
        return self._root.find_own(path.encode(), limit_bytes)

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        shown: Mapping[str, Path],
        answers: Answers | None = None,
    ) -> None:
        whole = {**self._env, "HOME": BUILD_FOLDER, "TMPDIR": BUILD_FOLDER, **env}
        try:
            if answers is None:
                self._room.run(argv, env=whole, shown=shown, user=NOBODY)
                return
            with closed_network() as network, answering(network.door, answers):
                command = [word.replace(DOOR, f"http://127.0.0.1:{network.port}") for word in argv]
                self._room.run(command, env=whole, shown=shown, user=NOBODY, network=network.namespace)
        except StepFailed as error:
            if not _NO_NETWORK.search(error.output):
                raise
            cause = "it wants something of the network, and there is none for it"
            raise self._room.failed(cause, output=error.output, hint=error.hint) from error


def _no_stage(name: str) -> Sequence[Path]:
    raise KeyError(name)
