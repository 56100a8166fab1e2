"""The agent's slow look at every byte: one blob or layer a minute is hashed, the one whose turn was longest ago.

What a check takes for unchanged, by size, inode and times, may have rotted all the same. What is found damaged here is
found by every check from then on, and replaced as the environment says.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from instar.errors import InstarError, StoreError
from instar.model.digest import Digest
from instar.model.happenings import DamageFound
from instar.model.progress import Progress, Report
from instar.operations.layers import layers_in_use
from instar.operations.workspace import Workspace

PAUSE_S: Final = 60.0


@dataclass
class Scrub:
    """``hashed``: when each thing had its turn, by the monotonic clock; ``damaged``: what was told of already."""

    workspace: Workspace
    report: Report
    hashed: dict[tuple[str, Digest], float] = field(default_factory=dict)
    damaged: set[tuple[str, Digest]] = field(default_factory=set)

    def step(self) -> None:
        """Hash one thing that something runs on. Never raises what was expected."""
        with contextlib.suppress(InstarError, OSError):
            things = set(self._things())
            self.hashed = {thing: at for thing, at in self.hashed.items() if thing in things}
            if not things:
                return
            thing = min(things, key=lambda one: (self.hashed.get(one, 0.0), one))
            self.hashed[thing] = time.monotonic()
            cause = self._hash(*thing)
            if cause is None:
                self.damaged.discard(thing)
            elif thing not in self.damaged:
                self.damaged.add(thing)
                where = self.workspace.machine if self.workspace.ledger.shared else None
                found = DamageFound(what=f"{thing[0]} {thing[1]}", cause=cause, machine=where)
                self.workspace.ledger.record(found)
                self.report(Progress(stage="scrub", kind="warning", text=f"{thing[0]} {thing[1]}: {cause}"))

    def _things(self) -> Iterator[tuple[str, Digest]]:
        """Yield the layers that instances stand on, and the blobs that those are made of.

        One that has no image is only just being made, or a check finds that.
        """
        yield from (
            ("layer", diff_id) for diff_id in layers_in_use(self.workspace) if self.workspace.layers.is_made(diff_id)
        )
        ledger = self.workspace.ledger
        for environment, number in {(one.environment, one.release) for one in ledger.instances()}:
            with contextlib.suppress(StoreError):
                for layer in self.workspace.store.image(ledger.get_release(environment, number).image).layers:
                    yield "blob", layer.digest

    def _hash(self, kind: str, digest: Digest) -> str | None:
        path = self.workspace.store.path(digest)
        try:
            if kind == "layer":
                return self.workspace.layers.examine(digest, deep=True)
            with self.workspace.hashed_files.sealing(path):
                self.workspace.store.verify(digest)
        except (OSError, StoreError) as error:
            return str(error)
        return None
