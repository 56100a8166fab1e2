"""What the agent does, a line each, on standard output: for people and grep, or as JSON."""

from __future__ import annotations

import json
import sys
import threading
from datetime import UTC, datetime
from typing import Literal, TextIO

from instar.model.progress import Progress, Report
from instar.model.release import Place

_LEVELS = {"running": "debug", "done": "info", "warning": "warning", "failed": "error"}


class Log:
    """Lines from several threads, whole each. ``stamped``: with the time, which a journal adds by itself."""

    def __init__(self, form: Literal["text", "json"], stream: TextIO | None = None, *, stamped: bool = True) -> None:
        self._form = form
        self._stream = stream or sys.stdout
        self._stamped = stamped
        self._guard = threading.Lock()

    def report_for(self, place: Place | None) -> Report:
        """Return what takes the progress of what is done at ``place``. What only passes is not written down."""

        def report(progress: Progress) -> None:
            if progress.kind != "running":
                self.say(_LEVELS[progress.kind], progress.stage, " · ".join((progress.text, *progress.detail)), place)

        return report

    def say(self, level: str, what: str, text: str, place: Place | None = None) -> None:
        """Write a line. Control characters never get through."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if self._form == "json":
            fields = {"at": now, "level": level, "place": str(place) if place else None, "what": what, "text": text}
            line = json.dumps(fields, ensure_ascii=True)
        else:
            words = ([now] if self._stamped else []) + [level, *([str(place)] if place else []), f"{what}:", text]
            line = " ".join("".join(one if one.isprintable() else " " for one in word) for word in words)
        with self._guard:
            try:
                print(line, file=self._stream, flush=True)
            except OSError:  # nobody reads any more: the work goes on
                return
