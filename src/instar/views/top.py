"""What an environment uses, as JSON and as a page that fits a terminal."""

from __future__ import annotations

import heapq
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from instar.frozen import dataclass
from instar.model.sizes import size_text
from instar.model.usage import Consumption, EnvironmentConsumption, ReleaseConsumption
from instar.views.page import Page, Table

_UNKNOWN: Final = "—"
_LEAST_RATE: Final = 0.05
_LEAST_WIDTH: Final = 20
_LEAST_ROWS: Final = 3  # of instances, however low a terminal is


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    name: str
    state: str
    figures: Consumption
    is_instance: bool = False


def top_json(found: EnvironmentConsumption) -> dict[str, Any]:
    return {
        "environment": found.environment.name,
        "service": found.environment.service,
        "active": found.active,
        "at": found.at,
        "seconds": found.seconds,
        "figures": found.figures,
        "releases": found.releases,
        "unknown": found.unknown,
    }


def top_page(found: EnvironmentConsumption, width: int | None = None, height: int | None = None) -> Page:
    """Yield what an environment uses, by release, role and instance; on a terminal only as much as fits in: columns
    that matter least go first, and instances that use least of the processors."""
    yield _title(found)
    if not found.releases:
        yield f"no instance is there: instar status {found.environment} says why"
        return
    yield ""
    rows = list(_rows(found))
    below = [line for sentence in found.unknown for line in ("", *_wrapped(f"{_UNKNOWN}: {sentence}", width))]
    shown = rows if height is None else _highest(rows, height - 3 - len(below))
    yield _table(shown, width)
    if len(shown) < len(rows):
        yield f"and {len(rows) - len(shown)} more that use less: --json has all"
    yield from below


def _wrapped(sentence: str, width: int | None) -> Sequence[str]:
    return [sentence] if width is None else textwrap.wrap(sentence, max(width, _LEAST_WIDTH))


def _title(found: EnvironmentConsumption) -> str:
    words = [str(found.environment)]
    words.append("no release has the traffic" if found.active is None else f"release {found.active} is active")
    asked = found.figures
    if asked.requests_per_s is not None:
        answered = f", answered in {asked.mean_ms:.1f} ms" if asked.mean_ms is not None else ""
        words.append(f"{asked.requests_per_s:.1f} requests/s, {_rate(asked.failed_per_s)} failed{answered}")
    words.append(f"{found.at:%H:%M:%S} UTC")
    return " · ".join(words)


def _rows(found: EnvironmentConsumption) -> Iterator[_Row]:
    for release in found.releases:
        state = "active" if release.number == found.active else ""
        yield _Row(name=f"release {release.number}", state=state, figures=release.figures)
        yield from _rows_of(release)


def _rows_of(release: ReleaseConsumption) -> Iterator[_Row]:
    for role in release.roles:
        if role.role:
            yield _Row(name=f"  {role.role}", state="", figures=role.figures)
        indent = "    " if role.role else "  "
        for one in role.instances:
            state = f"{one.state}, {one.task}" if one.task is not None else one.state
            yield _Row(name=f"{indent}{one.id}", state=state, figures=one.figures, is_instance=True)


def _highest(rows: Sequence[_Row], room: int) -> Sequence[_Row]:
    """Return as many of ``rows`` as there is room for, in their order: of instances, those that use most."""
    if len(rows) <= room:
        return rows
    others = sum(not one.is_instance for one in rows)
    instances = [position for position, one in enumerate(rows) if one.is_instance]
    most = heapq.nlargest(
        max(room - 1 - others, _LEAST_ROWS), instances, key=lambda position: rows[position].figures.processors or 0.0
    )
    kept = set(most)
    return [one for position, one in enumerate(rows) if not one.is_instance or position in kept]


def _memory(figures: Consumption) -> str:
    used, limit = figures.memory_bytes, figures.limit_bytes
    if used is None or not limit:
        return _known(used, size_text)
    return f"{size_text(used)} of {size_text(limit)} ({100 * used / limit:.0f} %)"


def _rate(value: float | None) -> str:
    return _known(value, lambda known: f"{known:.1f}" if known >= _LEAST_RATE else "<0.1" if known else "0")


def _known(value: Any, text: Callable[[Any], str]) -> str:
    return _UNKNOWN if value is None else text(value)


Column = tuple[str, Callable[[Consumption], str]]
_COLUMNS: Final[Sequence[Column]] = (
    ("CPU", lambda one: _known(one.processors, lambda value: f"{100 * value:.1f} %")),
    ("MEMORY", _memory),
    ("CACHE", lambda one: _known(one.cache_bytes, size_text)),
    ("PROCESSES", lambda one: _known(one.processes, str)),
    ("RECEIVED/s", lambda one: _known(one.received_bytes_per_s, lambda value: size_text(round(value)))),
    ("SENT/s", lambda one: _known(one.sent_bytes_per_s, lambda value: size_text(round(value)))),
    ("REQUESTS/s", lambda one: _rate(one.requests_per_s)),
    ("FAILED/s", lambda one: _rate(one.failed_per_s)),
    ("RESPONSE", lambda one: _known(one.mean_ms, lambda value: f"{value:.1f} ms")),
)
_STATE: Final = "STATE"
_LEAST_FIRST: Final = ("CACHE", _STATE, "SENT/s", "RECEIVED/s", "PROCESSES", "RESPONSE", "FAILED/s")


def _table(rows: Sequence[_Row], width: int | None) -> Table:
    left_out: set[str] = set()
    table = _with_columns(rows, left_out)
    for name in _LEAST_FIRST if width is not None else ():
        if max(map(len, table.lines())) <= (width or 0):
            break
        left_out.add(name)
        table = _with_columns(rows, left_out)
    return table


def _with_columns(rows: Sequence[_Row], left_out: set[str]) -> Table:
    columns = [one for one in _COLUMNS if one[0] not in left_out]
    has_state = _STATE not in left_out
    return Table(
        rows=[
            (one.name, *((one.state,) if has_state else ()), *(cell(one.figures) for _, cell in columns))
            for one in rows
        ],
        header=("", *((_STATE,) if has_state else ()), *(name for name, _ in columns)),
    )
