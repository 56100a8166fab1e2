"""What instances use of their machine: as it was read, and between two readings. What isn't known is None, never 0."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import field
from datetime import datetime
from typing import TypeVar

from instar.frozen import dataclass
from instar.model.release import EnvironmentId, Served

N = TypeVar("N", int, float)


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """One reading of what uses the machine. Time and bytes of the network are sums since it began.

    ``processor_us``: time of a processor; ``processors``: how many of them it kept busy lately, where its engine tells
    that and no sum. ``memory_bytes``: what counts to its limit and can't be given back at once; ``cache_bytes``: page
    cache that can, which counts to the limit too. ``limit_bytes`` is None where there is no limit, too.
    """

    processor_us: int | None = None
    processors: float | None = None
    memory_bytes: int | None = None
    cache_bytes: int | None = None
    limit_bytes: int | None = None
    processes: int | None = None
    received_bytes: int | None = None
    sent_bytes: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberUsage:
    """What one member of a group uses: ``group`` itself, by its name too, where groups have one each."""

    name: str
    group: str
    usage: Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What the members of some groups use: of all that run now. ``unknown`` says why what is None can't be told."""

    members: tuple[MemberUsage, ...] = ()
    unknown: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Consumption:
    """What came of two readings, of one instance or of several together. ``memory_bytes``, ``cache_bytes``,
    ``limit_bytes`` and ``processes`` are of the later one, the others of the time between, a second.

    ``processors``: how many were kept busy, 1.0 is one all the time. ``mean_ms``: until the heads of the answers.
    """

    processors: float | None = None
    memory_bytes: int | None = None
    cache_bytes: int | None = None
    limit_bytes: int | None = None
    processes: int | None = None
    received_bytes_per_s: float | None = None
    sent_bytes_per_s: float | None = None
    requests_per_s: float | None = None
    failed_per_s: float | None = None
    mean_ms: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceConsumption:
    """An instance, or a member of a group, and what it uses. ``task``: the one that it runs, if it serves not."""

    id: str
    state: str
    figures: Consumption
    task: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleConsumption:
    """The instances of one role of a release, "" where it has no roles, and what they use together."""

    role: str
    figures: Consumption
    instances: tuple[InstanceConsumption, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseConsumption:
    """A release that has instances, and what they use together."""

    number: int
    figures: Consumption
    roles: tuple[RoleConsumption, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvironmentConsumption:
    """What an environment uses, at a time and in the ``seconds`` before it (None: there was no reading before).
    ``unknown``: a sentence each why what is None can't be told."""

    environment: EnvironmentId
    active: int | None
    at: datetime
    seconds: float | None
    figures: Consumption
    releases: tuple[ReleaseConsumption, ...]
    unknown: tuple[str, ...] = field(default=())


def difference(before: Usage | None, after: Usage, seconds: float | None) -> Consumption:
    """Return what came between two readings of one member; of one that was not there ``before``, all since it began.

    Sums that began anew count whole.
    """
    started = before or Usage(processor_us=0, received_bytes=0, sent_bytes=0)
    used_s = _scaled(_rise(started.processor_us, after.processor_us), 1e-6)
    return Consumption(
        processors=after.processors if used_s is None else _per_second(used_s, seconds),
        memory_bytes=after.memory_bytes,
        cache_bytes=after.cache_bytes,
        limit_bytes=after.limit_bytes,
        processes=after.processes,
        received_bytes_per_s=_per_second(_rise(started.received_bytes, after.received_bytes), seconds),
        sent_bytes_per_s=_per_second(_rise(started.sent_bytes, after.sent_bytes), seconds),
    )


def with_requests(figures: Consumption, served: Served | None, seconds: float | None, *, timed: bool) -> Consumption:
    """Return ``figures`` with the requests that were ``served`` in that time. ``timed``: response times are known."""
    if served is None or not seconds:
        return figures
    return dataclasses.replace(
        figures,
        requests_per_s=served.requests / seconds,
        failed_per_s=served.failed / seconds,
        mean_ms=served.response_ms / served.requests if timed and served.requests else None,
    )


def together(several: Sequence[Consumption]) -> Consumption:
    """Return what several use together, without their requests: sums of what is known; a limit where each has one."""

    def total(of: Callable[[Consumption], N | None]) -> N | None:
        return _sum(of(one) for one in several)

    limits = [one.limit_bytes for one in several]
    return Consumption(
        processors=total(lambda one: one.processors),
        memory_bytes=total(lambda one: one.memory_bytes),
        cache_bytes=total(lambda one: one.cache_bytes),
        limit_bytes=None if None in limits else _sum(limits),
        processes=total(lambda one: one.processes),
        received_bytes_per_s=total(lambda one: one.received_bytes_per_s),
        sent_bytes_per_s=total(lambda one: one.sent_bytes_per_s),
    )


def _sum(values: Iterable[N | None]) -> N | None:
    known = [one for one in values if one is not None]
    return sum(known[1:], known[0]) if known else None


def _rise(before: int | None, after: int | None) -> int | None:
    if before is None or after is None:
        return None
    return after - before if after >= before else after


def _scaled(value: int | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _per_second(value: float | None, seconds: float | None) -> float | None:
    return value / seconds if value is not None and seconds else None
