"""``instar logs``: what instances printed, also of instances that are gone."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence

from instar.errors import NotFound
from instar.model.release import EnvironmentState
from instar.operations.parts import Parts
from instar.providers.base import Runtime


def logs(
    parts: Parts, environment: EnvironmentState, instance: str | None, *, last: int | None, follow: bool
) -> Iterator[tuple[str, str]]:
    """Yield (instance id, line). Of one instance, or of all copies of the active release.

    Lines of several instances come in the order of their times, or as they come when ``follow``.
    """
    runtime = parts.provider(environment.settings.provider).runtime
    names = [instance] if instance else _active(parts, environment)
    if follow:
        yield from _follow(runtime, names, last)
        return
    lines = [(line, name) for name in names for line in runtime.log_lines(name, last=last)]
    for line, name in sorted(lines, key=lambda pair: pair[0].partition(" ")[0]):
        yield name, line


def _active(parts: Parts, environment: EnvironmentState) -> list[str]:
    names = [one.id for one in parts.ledger.instances(environment.place) if one.release == environment.active]
    if not names:
        raise NotFound(
            f"cannot show logs of '{environment.place}': nothing runs there",
            hint=f"instar logs {environment.place} INSTANCE shows one that is gone; instar history names them",
        )
    return names


def _follow(runtime: Runtime, names: Sequence[str], last: int | None) -> Iterator[tuple[str, str]]:
    lines: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()

    def read(name: str) -> None:
        for line in runtime.log_lines(name, last=last, follow=True):
            lines.put((name, line))

    for name in names:
        threading.Thread(target=read, args=(name,), daemon=True).start()
    while True:
        yield lines.get()
