"""What was measured, as medians and ratios: for the screen, and for docs/performance.md."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BEGIN, END = "<!-- figures: written by scripts/bench -->", "<!-- end of figures -->"
HEADER = ("what", "Instar", "beside it", "ratio", "wanted", "")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One thing that was measured, ``beside`` something else or alone.

    ``most`` is what is wanted: of the ratio where there is something beside it (unless ``alone``), else of the median.
    None: nothing is wanted, it is told for its own sake.
    """

    what: str
    ours: Sequence[float]
    unit: str
    beside: Sequence[float] = ()
    peer: str = ""
    most: float | None = None
    alone: bool = False

    @property
    def ratio(self) -> float | None:
        return statistics.median(self.ours) / statistics.median(self.beside) if self.beside else None

    @property
    def met(self) -> bool | None:
        if self.most is None:
            return None
        by_ratio = self.ratio if not self.alone else None
        return (statistics.median(self.ours) if by_ratio is None else by_ratio) <= self.most

    def row(self) -> tuple[str, ...]:
        ratio = self.ratio
        of_ratio = ratio is not None and not self.alone
        wanted = "" if self.most is None else f"≤ {self.most:g} {'×' if of_ratio else self.unit}"
        return (
            self.what,
            self._text(self.ours),
            f"{self._text(self.beside)} ({self.peer})" if self.beside else "",
            f"{ratio:.2f} ×" if ratio is not None else "",
            wanted,
            {None: "", True: "met", False: "**missed**"}[self.met],
        )

    def _text(self, values: Sequence[float]) -> str:
        middle = f"{_number(statistics.median(values))} {self.unit}"
        if len(values) == 1:
            return middle
        return f"{middle} ({_number(min(values))}–{_number(max(values))})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) or value >= 100 else f"{value:.3g}"


def table(figures: Sequence[Figure]) -> str:
    """Return the figures in columns, for a terminal."""
    rows = [HEADER, *(figure.row() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines).replace("**", "")


def markdown(figures: Sequence[Figure]) -> str:
    rows = [HEADER, ("---",) * len(HEADER), *(figure.row() for figure in figures)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def machine() -> str:
    """Describe this machine by what matters for the figures, and by nothing that names it."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    release = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    kernel = platform.release().split("-", 1)[0]
    return f"{os.cpu_count()} cores ({platform.machine()}), {memory_gb:.0f} GB of memory, {release}, kernel {kernel}"


def write(document: Path, figures: Sequence[Figure], versions: str) -> None:
    """Put the figures where the document has its marks; the rest of it stays."""
    text = document.read_text()
    before, rest = text.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    told = f"Median (lowest–highest), on {machine()}; beside it {versions}.\n\n{markdown(figures)}"
    document.write_text(f"{before}{BEGIN}\n\n{told}\n\n{END}{after}")
