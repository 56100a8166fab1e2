"""What the agent does, a line each, on standard output: for people and grep, or as JSON."""

from __future__ import annotations

import json
import sys
import threading
from datetime import UTC, datetime
from typing import Literal, TextIO

from instar.model.progress import Progress, Report
from instar.model.release import EnvironmentId

_LEVELS = {"running": "debug", "done": "info", "warning": "warning", "failed": "error"}
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3}  # Source: sd-daemon(3)


class Log:
    """Lines from several threads, whole each. ``stamped`` False: a journal reads them, which adds the time by itself
    and takes each line's priority from its first characters."""

    def __init__(self, form: Literal["text", "json"], stream: TextIO | None = None, *, stamped: bool = True) -> None:
        self._form = form
        self._stream = stream or sys.stdout
        self._stamped = stamped
        self._guard = threading.Lock()

    def report_for(self, environment: EnvironmentId | None) -> Report:
        """Return what takes the progress of what is done at ``environment``. What only passes is not written down."""

        def report(progress: Progress) -> None:
            if progress.kind != "running":
                self.say(
                    _LEVELS[progress.kind], progress.stage, " · ".join((progress.text, *progress.detail)), environment
                )

        return report

    def say(self, level: str, what: str, text: str, environment: EnvironmentId | None = None) -> None:
        """Write a line. Control characters never get through, and what can't be written is no error."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        where, text = str(environment) if environment else None, _plain(text)
        if self._form == "json":
            line = json.dumps({"at": now, "level": level, "place": where, "what": what, "text": text})
        else:
            stamp = [now] if self._stamped else []
            line = " ".join((*stamp, level, *([_plain(where)] if where else []), f"{_plain(what)}:", text))
        self._write(line if self._stamped else f"<{_PRIORITIES.get(level, 6)}>{line}")

    def _write(self, line: str) -> None:
        encoding = self._stream.encoding or "utf-8"
        line = line.encode(encoding, "backslashreplace").decode(encoding)
        with self._guard:
            try:
                print(line, file=self._stream, flush=True)
            except (OSError, ValueError):  # nobody reads any more, or it was closed: the work goes on
                return


def _plain(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text)
