"""``instar logs``: what instances printed, also of instances that are gone."""

from __future__ import annotations

import queue
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial

from instar.control.endings import words
from instar.errors import NotFound
from instar.frozen import dataclass
from instar.model.log_line import LogLine
from instar.model.release import EnvironmentId, EnvironmentState
from instar.operations.roles import require_role
from instar.operations.workspace import Workspace
from instar.threads import begin

_NAMED = 5
NEWEST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """Which lines: of one ``instance``, of all of a ``release``, or (neither) of the active one's, and of a ``role`` of
    it alone where one is named; of those that came ``since`` and ``until`` then and have something that ``matching``
    finds, the ``last``. A line without a time is wanted whenever."""

    instance: str | None = None
    release: int | None = None
    role: str | None = None
    last: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    matching: re.Pattern[str] | None = None

    @property
    def is_choice(self) -> bool:
        """Tell whether some lines of several instances are wanted, not all."""
        chosen = (self.last, self.since, self.until, self.matching)
        return self.instance is None and any(one is not None for one in chosen)

    def has(self, line: LogLine) -> bool:
        if line.at is not None and ((self.since and line.at < self.since) or (self.until and line.at > self.until)):
            return False
        return self.matching is None or self.matching.search(line.text) is not None

    @property
    def last_read(self) -> int | None:
        """How many lines of each instance are read: all where some of them are not wanted."""
        return self.last if self.until is None and self.matching is None else None


def logs(
    workspace: Workspace,
    environment: EnvironmentState,
    wanted: Wanted,
    *,
    beside: Sequence[EnvironmentState] = (),
    follow: bool = False,
) -> Iterator[LogLine]:
    """Yield lines of instances, gone ones too, in the order of their times; or as they come when ``follow``, which
    begins with what is wanted of the last of each. ``beside``: those of other environments among them. Raises
    NotFound."""
    sources = [
        (name, partial(workspace.provider(state.settings.provider).log_lines, name))
        for state in (environment, *beside)
        for name in instances_of(workspace, state, wanted)
    ]
    if follow:
        yield from filter(wanted.has, followed(sources, wanted.last))
        return
    read = ((name, lines_of(last=wanted.last_read)) for name, lines_of in sources)
    lines = [one for name, lines in read for one in (LogLine.of(name, line) for line in lines) if wanted.has(one)]
    if len(sources) > 1:
        lines.sort(key=lambda line: line.at or NEWEST)
    yield from lines if wanted.last is None else lines[max(0, len(lines) - wanted.last) :]


def instances_of(workspace: Workspace, environment: EnvironmentState, wanted: Wanted) -> Sequence[str]:
    """Return whose lines are wanted, by their ids. Raises NotFound."""
    if wanted.instance is not None:
        return [require_instance(workspace, environment.id, wanted.instance)]
    if wanted.role is not None:
        require_role(workspace, environment, wanted.release, wanted.role)
    if wanted.release is None:
        return _active(workspace, environment, wanted)
    return _of_release(workspace, environment, wanted)


def endings(
    workspace: Workspace, environment: EnvironmentState, wanted: Wanted, shown: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Yield (instance id, how it ended) of those whose logs :func:`logs` shows and that have. Where only some lines are
    wanted, those that are gone are told of only if a line of theirs was ``shown``: a release may have had hundreds."""
    provider = workspace.provider(environment.settings.provider)
    present = {one.id: one for one in workspace.ledger.instances(environment.id)}
    for name in instances_of(workspace, environment, wanted):
        if wanted.is_choice and name not in shown and name not in present:
            continue
        ending = workspace.ledger.find_ending(name)
        if ending is not None:
            yield name, f"{ending} ({ending.at:%Y-%m-%d %H:%M:%S} UTC)"
        elif name in present:
            (seen,) = provider.observe(environment.id, [present[name]]).groups
            if seen.state == "stopped":
                yield name, words(seen)


def require_instance(workspace: Workspace, environment: EnvironmentId, instance: str) -> str:
    """Return ``instance`` when ``environment`` has or had it. Raises NotFound, naming the newest few."""
    names = workspace.ledger.instance_names(environment)
    if instance not in names:
        group = next((one for one in names if instance.startswith(f"{one}-")), None)
        if group is not None:  # an engine calls what it makes for a group so
            raise NotFound(
                f"cannot show logs of '{instance}' alone: they are kept with those of its instance, '{group}'",
                hint=f"instar logs {environment} {group}",
            )
        newest = ", ".join(names[: -_NAMED - 1 : -1]) or "it never had one"
        raise NotFound(
            f"cannot find '{instance}': '{environment}' never had such an instance", hint=f"the newest are: {newest}"
        )
    return instance


def _active(workspace: Workspace, environment: EnvironmentState, wanted: Wanted) -> list[str]:
    names = [
        one.id
        for one in workspace.ledger.instances(environment.id)
        if one.release == environment.active and wanted.role in (None, one.role)
    ]
    if not names:
        raise NotFound(
            f"cannot show logs of '{environment.id}': nothing runs there",
            hint=f"instar logs {environment.id} INSTANCE shows one that is gone; instar history names them",
        )
    return names


def _of_release(workspace: Workspace, environment: EnvironmentState, wanted: Wanted) -> list[str]:
    """Return the instances of a release that have a log still. Raises NotFound."""
    provider, number = workspace.provider(environment.settings.provider), wanted.release
    workspace.ledger.get_release(environment.id, number or 0)
    every = workspace.ledger.instance_releases(environment.id)
    roles = {} if wanted.role is None else workspace.ledger.instance_roles(environment.id)
    names = [
        name
        for name, release in every
        if release == number and wanted.role == roles.get(name) and provider.has_log(name)
    ]
    if not names:
        raise NotFound(
            f"cannot show logs of release {number} of '{environment.id}': none is kept",
            hint="those of the newest releases are, and of pinned ones: see 'keep'",
        )
    return names


def followed(sources: Sequence[tuple[str, Callable[..., Iterator[str]]]], last: int | None) -> Iterator[LogLine]:
    """Yield the lines of all ``sources``, by their names, as they come."""
    heard: queue.SimpleQueue[LogLine | BaseException | None] = queue.SimpleQueue()

    def read(name: str, lines_of: Callable[..., Iterator[str]]) -> None:
        end: BaseException | None = None
        try:
            for line in lines_of(last=last, follow=True):
                heard.put(LogLine.of(name, line))
        except BaseException as error:
            end = error
        finally:
            heard.put(end)

    for source in sources:
        begin(partial(read, *source))
    reading = len(sources)
    while reading:
        item = heard.get()
        if isinstance(item, BaseException):
            raise item
        if item is None:
            reading -= 1
        else:
            yield item
