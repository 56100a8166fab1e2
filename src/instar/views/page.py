"""What is shown to people: lines, and tables whose columns are as wide as their widest cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from instar.frozen import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Rows of cells, under a ``header`` where there is one."""

    rows: Sequence[Sequence[str]]
    header: Sequence[str] | None = None

    def lines(self) -> Iterator[str]:
        """Yield the header, if there is one, and the rows, each as a line, whatever is in its cells."""
        rows = [[cell.replace("\n", " ") for cell in row] for row in self.rows]
        cells = [self.header, *rows] if self.header else rows
        widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))] if cells else []
        for row in cells:
            yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


Page = Iterator[str | Table]
