"""The steps ``run``: a line of the definition each, by the image's shell, as root, with the image's environment."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from instar.bake.root import Root
from instar.bake.scratch import Room

if TYPE_CHECKING:
    from instar.bake.ecosystems import Offered


def bake_line(line: str, env: Mapping[str, str], timeout_ms: int, room: Room, offered: Offered | None = None) -> None:
    """Run ``line``, which can read what is ``offered``. Raises StepFailed with the tail of its output, FetchError."""
    with Root(room.root(), epoch=room.epoch) as root:
        if not root.exists("bin/sh"):
            hint = "bring what is made elsewhere by 'files' or 'fetch', or take a base that has a shell"
            raise room.failed("there is no /bin/sh in the image", hint=hint)
    together = f"exec 2>&1; {line}"  # runc would mix up what goes to two pipes
    with offered.shown(room.cache) if offered else contextlib.nullcontext() as shown:
        whole = {**offered.environment, **env} if offered else env
        room.run(["/bin/sh", "-euc", together], env=whole, timeout_s=timeout_ms / 1000, shown=shown)
