"""What is kept of an instance before it goes: its processes, as they were."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any, Final

from instar.host.kernel import cgroups
from instar.host.processes import proc

_AT_MOST: Final = 500
_WORDS_AT_MOST: Final = 1000
_CODE_AT_MOST, _NAME_AT_MOST = 50, 300


def processes(group: str) -> tuple[Mapping[str, Any], ...]:
    """Return each process of the control group, without its environment, which may hold what nobody should keep."""
    found = []
    for pid in sorted(cgroups.members(group))[:_AT_MOST]:
        with contextlib.suppress(OSError, ValueError, KeyError):
            status = proc.status(pid)
            command = " ".join(os.fsdecode(word) for word in proc.words(pid, "cmdline"))
            found.append(
                {
                    "pid": pid,
                    "parent": status.parent,
                    "user": status.users[0],
                    "state": status.state,
                    "program": _program(pid),
                    "command": command[:_WORDS_AT_MOST],
                    "code": _code(pid),
                }
            )
    return tuple(found)


def _code(pid: int) -> list[str]:
    names = sorted({f"{one.name[:_NAME_AT_MOST]} ({one.device})" for one in proc.executable(pid)})
    more = [f"and {len(names) - _CODE_AT_MOST} more"] if len(names) > _CODE_AT_MOST else []
    return [*names[:_CODE_AT_MOST], *more]


def _program(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe")  # noqa: PTH115 - a link that leads nowhere outside
    except OSError:
        return ""
