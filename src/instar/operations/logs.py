"""``instar logs``: what instances printed, also of instances that are gone."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial

from instar.control.endings import words
from instar.errors import NotFound
from instar.model.release import EnvironmentId, EnvironmentState
from instar.operations.workspace import Workspace
from instar.providers.base import Provider
from instar.threads import begin

_NAMED = 5


def logs(
    workspace: Workspace,
    environment: EnvironmentState,
    instance: str | None,
    *,
    last: int | None,
    since: datetime | None = None,
    follow: bool,
) -> Iterator[tuple[str, str]]:
    """Yield (instance id, line). Of one instance, or of all of the active release.

    Lines of several instances come in the order of their times, the ``last`` of all together; or as they come when
    ``follow``, which begins with the last of each.
    """
    provider = workspace.provider(environment.settings.provider)
    names = [_known(workspace, environment.id, instance)] if instance else _active(workspace, environment)
    if follow:
        yield from (pair for pair in _follow(provider, names, last) if _is_since(pair[1], since))
        return
    lines = [(line, name) for name in names for line in provider.log_lines(name, last=last) if _is_since(line, since)]
    if len(names) > 1:
        lines.sort(key=lambda pair: _moment(pair[0]))
    for line, name in lines if last is None else lines[max(0, len(lines) - last) :]:
        yield name, line


def endings(workspace: Workspace, environment: EnvironmentState, instance: str | None) -> Iterator[tuple[str, str]]:
    """Yield (instance id, how it ended) of those whose logs :func:`logs` shows and that have."""
    provider = workspace.provider(environment.settings.provider)
    present = {one.id: one for one in workspace.ledger.instances(environment.id)}
    for name in [instance] if instance else _active(workspace, environment):
        ending = workspace.ledger.find_ending(name)
        if ending is not None:
            yield name, f"{ending} ({ending.at:%Y-%m-%d %H:%M:%S} UTC)"
        elif name in present:
            (seen,) = provider.observe(environment.id, [present[name]]).groups
            if seen.state == "stopped":
                yield name, words(seen)


def _is_since(line: str, since: datetime | None) -> bool:
    return since is None or _moment(line) >= since


def _moment(line: str) -> datetime:
    """Return the time of a line, which is written in the zone of whoever wrote it; one without any is the newest."""
    try:
        return datetime.fromisoformat(line.partition(" ")[0]).astimezone(UTC)
    except (ValueError, OverflowError):
        return datetime.max.replace(tzinfo=UTC)


def _known(workspace: Workspace, environment: EnvironmentId, instance: str) -> str:
    """Return ``instance`` when ``environment`` has or had it. Raises NotFound, naming the newest few."""
    names = workspace.ledger.instance_names(environment)
    if instance not in names:
        newest = ", ".join(names[: -_NAMED - 1 : -1]) or "it never had one"
        raise NotFound(
            f"cannot find '{instance}': '{environment}' never had such an instance", hint=f"the newest are: {newest}"
        )
    return instance


def _active(workspace: Workspace, environment: EnvironmentState) -> list[str]:
    names = [one.id for one in workspace.ledger.instances(environment.id) if one.release == environment.active]
    if not names:
        raise NotFound(
            f"cannot show logs of '{environment.id}': nothing runs there",
            hint=f"instar logs {environment.id} INSTANCE shows one that is gone; instar history names them",
        )
    return names


def _follow(provider: Provider, names: Sequence[str], last: int | None) -> Iterator[tuple[str, str]]:
    heard: queue.SimpleQueue[tuple[str, str] | BaseException | None] = queue.SimpleQueue()

    def read(name: str) -> None:
        end: BaseException | None = None
        try:
            for line in provider.log_lines(name, last=last, follow=True):
                heard.put((name, line))
        except BaseException as error:
            end = error
        finally:
            heard.put(end)

    for name in names:
        begin(partial(read, name))
    reading = len(names)
    while reading:
        item = heard.get()
        if isinstance(item, BaseException):
            raise item
        if item is None:
            reading -= 1
        else:
            yield item
