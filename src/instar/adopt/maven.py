"""What lines of a shell have Maven do → what it is to do while it is locked."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Final

from instar.adopt.draft import scalar

_COMMAND: Final = re.compile(r"\bmvn ([^&;|'\"]*)")
_PHASES: Final = frozenset({"compile", "test", "package", "verify", "install", "deploy"})
_OF_NO_WEIGHT: Final = frozenset(
    {"-B", "--batch-mode", "-q", "--quiet", "-ntp", "--no-transfer-progress", "-o", "--offline", "-e", "-X", "-U"}
)


def only_fetches(words: Sequence[str]) -> bool:
    """Tell whether a command of Maven's does nothing but bring what it will need: locking does."""
    goals = [word for word in words[1:] if not word.startswith("-")]
    return bool(goals) and all(goal.startswith("dependency:") for goal in goals)


def maven_use(lines: Iterable[str]) -> str | None:
    """Return the value of ``maven`` for a stage with these lines; None where none of them builds with it."""
    for line in reversed(list(lines)):
        for command in reversed(_COMMAND.findall(line)):
            try:
                words = [word for word in shlex.split(command) if word not in _OF_NO_WEIGHT]
            except ValueError:
                continue
            if _PHASES.intersection(words):
                goals = "" if words == ["package"] else f", goals: [{', '.join(map(scalar, words))}]"
                return f"{{from: .{goals}}}"
    return None
