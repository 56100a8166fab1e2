"""What a control group uses, of either version of cgroups, read from its files: a few of them, so that fifty groups
take some milliseconds. What can't be read (the group is gone, or its controller is not there) is None.

Memory that is in use is what its limit counts without the page cache that the kernel takes back first, that of files
which nobody has used lately (``inactive_file``): so do ``docker stats`` and the kubelet. The time of the keeper, which
shares the group's limit, is part of the group's. Source: linux/Documentation/admin-guide, cgroup-v1/cpuacct.rst,
cgroup-v1/memory.rst, cgroup-v2.rst.
"""

from __future__ import annotations

from instar.frozen import dataclass
from instar.host.kernel import cgroups
from instar.host.processes import proc

_UNLIMITED = 1 << 60  # v1 says the largest number that it can hold, in pages


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupUsage:
    """``time_us`` of a processor since the group was made. ``limit_bytes`` is None without a limit, too."""

    time_us: int | None = None
    memory_bytes: int | None = None
    cache_bytes: int | None = None
    limit_bytes: int | None = None
    processes: int | None = None


def usage(name: str) -> GroupUsage:
    """Return what the group ``name`` uses now."""
    counting, limiting = _hierarchy("cpuacct"), _hierarchy("memory")
    memory, cache = _memory(limiting, name)
    return GroupUsage(
        time_us=_time_us(counting, name),
        memory_bytes=memory,
        cache_bytes=cache,
        limit_bytes=_limit(limiting, name),
        processes=None if limiting is None or memory is None else len(cgroups.members_in(limiting, name)),
    )


def _hierarchy(controller: str) -> cgroups.Hierarchy | None:
    """Return the one that has ``controller``: v2's where no v1 hierarchy does."""
    found = cgroups.hierarchies()
    unified = (one for one in found if one.unified)
    return next((one for one in found if controller in one.controllers), next(unified, None))


def _time_us(hierarchy: cgroups.Hierarchy | None, name: str) -> int | None:
    if hierarchy is None:
        return None
    if hierarchy.unified:
        return _field(_text(hierarchy, name, "cpu.stat"), b"usage_usec")
    nanoseconds = _number(_text(hierarchy, name, "cpuacct.usage"))
    return None if nanoseconds is None else nanoseconds // 1000


def _memory(hierarchy: cgroups.Hierarchy | None, name: str) -> tuple[int | None, int | None]:
    """Return what is in use, and the cache that can be given back."""
    if hierarchy is None:
        return None, None
    total, inactive = ("memory.current", b"inactive_file")
    if not hierarchy.unified:
        total, inactive = ("memory.usage_in_bytes", b"total_inactive_file")
    used, cache = _number(_text(hierarchy, name, total)), _field(_text(hierarchy, name, "memory.stat"), inactive)
    return None if used is None else max(used - (cache or 0), 0), cache


def _limit(hierarchy: cgroups.Hierarchy | None, name: str) -> int | None:
    if hierarchy is None:
        return None
    limit = _number(_text(hierarchy, name, "memory.max" if hierarchy.unified else "memory.limit_in_bytes"))
    return limit if limit is not None and limit < _UNLIMITED else None


def _text(hierarchy: cgroups.Hierarchy, name: str, file: str) -> bytes:
    """Return what is in a file of the group; nothing where it is not there any more."""
    try:
        return proc.read(f"{hierarchy.mount}/{name}/{file}")
    except OSError:
        return b""


def _number(text: bytes) -> int | None:
    return int(text) if text.strip().isdigit() else None


def _field(text: bytes, name: bytes) -> int | None:
    for line in text.split(b"\n"):
        key, _, value = line.partition(b" ")
        if key == name:
            return _number(value)
    return None
