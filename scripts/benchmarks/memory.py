"""How much memory a process and its children have at their most."""

from __future__ import annotations

import contextlib
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PERIOD_S = 0.01
FILES, FILE_BYTES = 16, 64_000_000


def write_gigabyte(folder: Path) -> None:
    """Write files that compress to about half, the same every time."""
    folder.mkdir(parents=True)
    source = random.Random(1)
    for number in range(FILES):
        with (folder / f"part-{number:02}").open("wb") as file:
            for _ in range(FILE_BYTES // 1_000_000):
                file.write(source.randbytes(500_000).ljust(1_000_000, b"."))


def peak_bytes(process: subprocess.Popen[str]) -> int:
    """Return the highest sum of resident memory of ``process`` and its descendants until it has ended well.

    Pages that several of them share are counted for each, so the truth is a little lower.
    """
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(resident(pid) for pid in tree(process.pid)))
        time.sleep(PERIOD_S)
    if process.returncode != 0:
        raise RuntimeError(f"the bake failed: {process.stderr.read() if process.stderr else ''}")
    return peak


def tree(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                yield from tree(int(child))


def resident(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0
