"""What an instance can change of itself, at one moment: its writable places and its processes; and what differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Literal

from instar.frozen import dataclass

Kind = Literal["added", "removed", "changed", "started"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """A file. ``size_bytes`` and ``mtime_ns`` are 0 for folders: what is in one is seen by itself."""

    mode: int
    size_bytes: int = 0
    mtime_ns: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Writable:
    """A writable place by the paths of its files; not ``whole`` where there were more than one cares to look at."""

    files: Mapping[str, Seen] = field(default_factory=dict)
    whole: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """``places`` by their paths inside, ``processes`` by (pid, start time) with what each was started as. ``unknown``:
    why nobody could look, None where somebody did."""

    places: Mapping[str, Writable] = field(default_factory=dict)
    processes: Mapping[tuple[int, int], str] = field(default_factory=dict)
    unknown: str | None = None

    @property
    def whole(self) -> bool:
        return self.unknown is None and all(place.whole for place in self.places.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """``name`` is a path inside, or the command line of a process that was ``started`` and stayed."""

    kind: Kind
    name: str
    what: str = ""


def differences(before: Survey, after: Survey) -> tuple[Difference, ...]:
    """Return what differs, place by place, then the new processes. What was not looked at whole is not guessed."""
    found: list[Difference] = []
    for path in sorted(before.places.keys() | after.places.keys()):
        old, new = before.places.get(path, Writable()), after.places.get(path, Writable())
        found.extend(sorted(_of_place(old, new), key=lambda one: one.name))
    started = sorted(after.processes.keys() - before.processes.keys())
    found.extend(Difference(kind="started", name=after.processes[key], what=f"pid {key[0]}") for key in started)
    return tuple(found)


def _of_place(old: Writable, new: Writable) -> Iterator[Difference]:
    if old.whole:
        for path in new.files.keys() - old.files.keys():
            yield Difference(kind="added", name=path, what=_description(new.files[path]))
    if new.whole:
        for path in old.files.keys() - new.files.keys():
            yield Difference(kind="removed", name=path)
    for path in old.files.keys() & new.files.keys():
        if old.files[path] != new.files[path]:
            yield Difference(kind="changed", name=path, what=_change(old.files[path], new.files[path]))


def _change(old: Seen, new: Seen) -> str:
    words = [] if old.mode == new.mode else [f"mode {old.mode & 0o7777:o} → {new.mode & 0o7777:o}"]
    if old.size_bytes != new.size_bytes:
        words.append(f"{old.size_bytes} B → {new.size_bytes} B")
    return ", ".join(words) or "written to"


def _description(seen: Seen) -> str:
    kinds = {0o040000: "folder", 0o120000: "link", 0o140000: "socket", 0o010000: "pipe"}
    return kinds.get(seen.mode & 0o170000, f"{seen.size_bytes} B, mode {seen.mode & 0o7777:o}")
