"""What the kernel says of a process: its mounts, namespaces, privileges, the code that it has mapped.

All of it is of one moment, and of a pid: who asks makes sure before and after that it is still the process that was
meant. A process that ends meanwhile raises ProcessLookupError or FileNotFoundError. Source: proc(5).
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from instar.frozen import dataclass

NAMESPACES: Final = ("mnt", "pid", "net", "ipc", "uts", "user", "cgroup")

_OCTAL = re.compile(r"\\([0-7]{3})")
# address, permissions with an x, offset, device, inode, and what is mapped
_EXECUTABLE = re.compile(rb"^[0-9a-f]+-[0-9a-f]+ [r-][w-]x[ps] [0-9a-f]+ ([0-9a-f]+:[0-9a-f]+) (\d+) *(.*)$", re.M)
_MAPPING = re.compile(rb"^[0-9a-f]+-[0-9a-f]+ [r-][w-](.)[ps] [0-9a-f]+ ([0-9a-f]+:[0-9a-f]+) (\d+) *(.*)$")
_MOUNT_NUMBER = re.compile(rb"^mnt_id:\t(\d+)$", re.M)
_LINKS_OF_ONE_THREAD = 3
_CHUNK = 1 << 16
_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")
_O_FILE = os.O_RDONLY | os.O_CLOEXEC


class Mount(NamedTuple):
    """A line of mountinfo. ``shared``: how events propagate ("shared:7 master:1", nothing for a private one);
    ``options`` are of this mount, ``of_all`` of its file system."""

    number: int
    parent: int
    device: str  # "0:44", decimal
    root: str
    point: str
    options: str
    shared: str
    kind: str
    source: str
    of_all: str


class Mapped(NamedTuple):
    """Something executable in a process's memory. ``device`` is "0:44", decimal; "0:0" of memory that is no file's."""

    device: str
    inode: int
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """Ids are those of this machine: real, effective, saved, of the file system. Capabilities are bit masks."""

    name: str
    state: str
    parent: int
    users: tuple[int, ...]
    groups: tuple[int, ...]
    more_groups: tuple[int, ...]
    capabilities: Mapping[str, int]  # "CapEff" → mask
    no_new_privileges: bool
    filtered: bool  # by seccomp
    filters: int = 0  # how many; 0 where the kernel doesn't say
    tracer: int = 0  # the process that debugs it

    @property
    def dead(self) -> bool:
        return self.state in ("Z", "X")


def read(path: str) -> bytes:
    """Return all of a file of /proc, which gives at most a page's worth at a time."""
    descriptor = os.open(path, _O_FILE)
    try:
        parts = []
        while text := os.read(descriptor, _CHUNK):
            parts.append(text)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def mounts(pid: int | str = "self") -> tuple[Mount, ...]:
    """Return the mounts that the process sees, in the order in which they were made."""
    lines = read(f"/proc/{pid}/mountinfo").decode(errors="surrogateescape").rstrip("\n").split("\n")
    return tuple(_mount(line) for line in lines if line)


def namespaces(pid: int | str) -> dict[str, str]:
    """Return the process's namespaces: kind → "kind:[number]"."""
    return {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in NAMESPACES}  # noqa: PTH115 - as above


def root(pid: int) -> tuple[int, int]:
    """Return (device, inode) of what the process has as its root."""
    found = os.stat(f"/proc/{pid}/root/")  # noqa: PTH116 - a Path takes three times as long
    return found.st_dev, found.st_ino


def status(pid: int) -> Status:
    text = read(f"/proc/{pid}/status").decode(errors="replace")
    fields = dict(line.split(":\t", 1) for line in text.split("\n") if ":\t" in line)
    return Status(
        name=fields["Name"],
        state=fields["State"][:1],
        parent=int(fields["PPid"]),
        users=_numbers(fields["Uid"]),
        groups=_numbers(fields["Gid"]),
        more_groups=_numbers(fields["Groups"]),
        capabilities={name: int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")},
        no_new_privileges=fields.get("NoNewPrivs") == "1",
        filtered=fields.get("Seccomp") == "2",
        filters=int(fields.get("Seccomp_filters", "0")),
        tracer=int(fields.get("TracerPid", "0")),
    )


def living_thread(pid: int) -> int | None:
    """Return what can be asked in place of ``pid``: itself, or one of its threads where the first has ended before the
    others, for then only they have memory and namespaces. None for one that is gone, and for the kernel's own."""
    if _has_memory(pid):
        return pid
    try:
        tasks = f"/proc/{pid}/task"
        if os.stat(tasks).st_nlink > _LINKS_OF_ONE_THREAD:  # noqa: PTH116 - a Path takes three times as long
            return next((int(name) for name in os.listdir(tasks) if _has_memory(name)), None)  # noqa: PTH208
    except OSError:
        pass
    return None


def _has_memory(pid: int | str) -> bool:
    """What it runs may have any name, also one that is too long to be told."""
    try:
        os.readlink(f"/proc/{pid}/exe")  # noqa: PTH115 - a Path takes three times as long
    except (FileNotFoundError, ProcessLookupError):
        return False
    except OSError:
        pass
    return True


def state(pid: int) -> str:
    """Return the letter of the process's state, such as "T" of one that was stopped."""
    text = read(f"/proc/{pid}/stat")
    return chr(text[text.rindex(b")") + 2])


def oom_score(pid: int) -> int:
    """Return what was added to the process's chance to be ended when memory is short."""
    return int(read(f"/proc/{pid}/oom_score_adj"))


def has_open(pid: int, path: Path) -> bool:
    """Tell whether a process has the very file open that is at ``path`` now. Raises OSError."""
    try:
        wanted = path.stat()
    except FileNotFoundError:
        return False
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found = entry.stat()
            if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                return True
    return False


def descriptors(pid: int) -> Iterator[tuple[int, str]]:
    """Yield the number and the name of what a process has open; only what has a name in a file system begins with a
    "/", and what the kernel made for a call."""
    folder = f"/proc/{pid}/fd"
    for number in os.listdir(folder):  # noqa: PTH208 - there can be tens of thousands
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            yield int(number), os.readlink(f"{folder}/{number}")  # noqa: PTH115 - as above


def mount_of(pid: int | str, descriptor: int) -> int:
    """Return the number of the mount that what is open was opened on, as mountinfo has it."""
    found = _MOUNT_NUMBER.search(read(f"/proc/{pid}/fdinfo/{descriptor}"))
    return int(found[1]) if found else 0


def working_folder(pid: int) -> tuple[str, int]:
    """Return the name of the folder that a process works in, and the number of its mount."""
    path = f"/proc/{pid}/cwd"
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return os.readlink(path), mount_of("self", descriptor)  # noqa: PTH115 - a link that leads nowhere outside
    finally:
        os.close(descriptor)


def executable(pid: int) -> Iterator[Mapped]:
    """Yield what is mapped to be run, each thing once."""
    seen = set(_EXECUTABLE.findall(read(f"/proc/{pid}/maps")))
    for device, inode, name in seen:
        yield Mapped(_decimal(device), int(inode), name.decode(errors="replace"))


def overwritten(pid: int) -> Iterator[Mapped]:
    """Yield the executable mappings of files some of whose pages are no longer the file's. Takes long: smaps."""
    mapping: Mapped | None = None
    for line in read(f"/proc/{pid}/smaps").split(b"\n"):
        found = _MAPPING.match(line)
        if found:
            executable_file = found[1] == b"x" and found[3] != b"0"
            mapping = (
                Mapped(_decimal(found[2]), int(found[3]), found[4].decode(errors="replace"))
                if executable_file
                else None
            )
        elif mapping and line.startswith(b"Anonymous:") and line.split()[1] != b"0":
            yield mapping


def age_s(start_time: int) -> float:
    """Return for how long something runs that began at ``start_time``, in the kernel's ticks since the boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - start_time / _TICKS_A_SECOND


def words(pid: int, file: str) -> tuple[bytes, ...]:
    """Return the words of ``cmdline`` or ``environ``."""
    text = read(f"/proc/{pid}/{file}")
    return tuple(text.removesuffix(b"\0").split(b"\0")) if text else ()


def pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208


def unescaped(text: str) -> str:
    """Undo the octal escapes of mountinfo."""
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), text) if "\\" in text else text


def device_text(device: int) -> str:
    return f"{os.major(device)}:{os.minor(device)}"


def _mount(line: str) -> Mount:
    before, _, after = line.partition(" - ")
    number, parent, device, place, point, options, *shared = before.split(" ")
    kind, source, of_all = after.split(" ", 2)
    return Mount(
        int(number), int(parent), device, unescaped(place), unescaped(point), options, " ".join(shared), kind,
        unescaped(source), of_all,
    )  # fmt: skip


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split()))


def _decimal(device: bytes) -> str:
    major, minor = device.split(b":")
    return f"{int(major, 16)}:{int(minor, 16)}"
