"""How far a test came that takes hours: with INSTAR_PROGRESS=FOLDER it goes on where the last run of it was ended.

One file a test, one JSON line for each part that is done. Without that variable every run begins anew.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class Progress:
    def __init__(self, test: str) -> None:
        folder = os.environ.get("INSTAR_PROGRESS")
        self._file = Path(folder, f"{test}.jsonl") if folder else None
        self.done: list[dict[str, Any]] = []
        if self._file is not None and self._file.exists():
            self.done = [json.loads(line) for line in self._file.read_text().splitlines()]

    def add(self, **part: Any) -> None:
        """Write down that a part is done, and what came of it."""
        self.done.append(part)
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a") as file:
                file.write(json.dumps(part) + "\n")
