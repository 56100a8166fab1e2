"""What is written down in an instance's folder: first what is intended and who makes it, then its first process, last
until when that has time to end."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from instar import durable
from instar.errors import HostError
from instar.frozen import dataclass
from instar.host.network.guests import Guest
from instar.host.processes import processes
from instar.model.codec import from_json, parse, to_json
from instar.model.digest import Digest
from instar.model.release import Instance
from instar.process import Process
from instar.providers.local.names import InstanceNames, Names, id_of_link

_YOUNG_S = 60.0
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Intent:
    """``made_at`` is in seconds since the boot; ``maker`` is the process that began to make the instance. ``layers``:
    the diff ID of each layer that it stands on, topmost first; an older Instar wrote none. ``guest``: what ties its
    link; None: an older Instar made it, which tied none."""

    id: str
    serial: int
    maker: Process
    made_at: int
    layers: tuple[Digest, ...] = ()
    guest: Guest | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Stopping:
    """``process`` is to end, and is killed when it hasn't ``until_ms`` (of the monotonic clock, which all processes of
    a boot share). ``told``: its stop signal was sent; else it did not hear signals yet when that was tried."""

    process: Process
    until_ms: int
    told: bool

    @classmethod
    def within(cls, process: Process, grace_ms: int, *, told: bool) -> Stopping:
        """Return that ``process`` has ``grace_ms`` from now on."""
        return cls(process=process, until_ms=int(time.monotonic() * 1000) + grace_ms, told=told)

    @property
    def left_s(self) -> float:
        """How long it has yet, 0 once that is over."""
        return max(0.0, self.until_ms / 1000 - time.monotonic())


def write_intent(names: InstanceNames, instance: Instance, layers: Sequence[Digest], guest: Guest) -> None:
    """Make the instance's folder with its intent in it: from now on everything of it can be found."""
    maker = processes.identify(os.getpid())
    assert maker is not None
    intent = Intent(
        id=instance.id, serial=instance.serial, maker=maker, made_at=_uptime(), layers=tuple(layers), guest=guest
    )
    remove_begun(names)
    folder = names.folder.with_name(f".{_words(maker)}-{names.name}")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(folder / names.intent.name, to_json(intent))
        folder.rename(names.folder)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def add_layer(names: InstanceNames, layer: Digest) -> None:
    """Write down a layer that lies above those of the intent."""
    intent = find_intent(names.folder)
    if intent is not None and layer not in intent.layers:
        _write(names.intent, to_json(replace(intent, layers=(layer, *intent.layers))))


def remove_begun(names: InstanceNames) -> None:
    """Remove what a maker that was killed before it could write down its intent has left."""
    for folder in names.folder.parent.glob(".*"):
        if folder.name.partition("-")[2] == names.name and not _is_begun(folder):
            shutil.rmtree(folder)


def write_process(names: InstanceNames, process: Process) -> None:
    _write(names.process, to_json(process))


def write_stopping(names: InstanceNames, stopping: Stopping) -> None:
    _write(names.stopping, to_json(stopping))


def find_stopping(names: InstanceNames, process: Process) -> Stopping | None:
    """Return until when ``process`` has time to end; None where nobody has begun to stop it."""
    found = _read(names.stopping, Stopping)
    return found if found is not None and found.process == process else None


def find_intent(folder: Path) -> Intent | None:
    return _read(folder / "instance.json", Intent)


def find_process(names: InstanceNames) -> Process | None:
    return _read(names.process, Process)


def damaged_intent(names: Names, name: str) -> HostError:
    """Return the refusal to go by what instances stand on, where one no longer says it."""
    path = names.state.instances / name / names.instance(name, 0).intent.name
    return HostError(
        f"cannot read '{path}': it is damaged, and nobody knows which layers '{name}' stands on; none was unmounted",
        hint=f"have the instance replaced: instar taint ENV {name}; the next deploy clears one that no environment has",
    )


def require_carried(names: Names) -> None:
    """Raise HostError where what runs here carries another id than the state directory's: that one is not as it was
    made, and would be given a second bridge on the same network."""
    others: set[str | None] = set()
    for folder in names.state.instances.glob("[!.]*"):
        guest = intent.guest if (intent := find_intent(folder)) else None
        if guest is not None and guest.link.startswith(names.link_prefix):
            return
        others.add(id_of_link(guest.link) if guest is not None else None)
    others.discard(None)
    if others:
        carried = ", ".join(sorted(map(str, others)))
        raise HostError(
            f"cannot use '{names.state.id_file}': it is damaged: what runs here carries {carried}, and not {names.id}",
            hint="nothing was made or changed, and what runs goes on; write the digits that it carries into the file",
        )


def all_intents(names: Names) -> Mapping[str, Intent | None]:
    """Return the name of every instance's folder, with its intent where one was written.

    A folder that somebody alive has only begun is not among them.
    """
    root = names.state.instances
    folders = sorted(root.iterdir()) if root.is_dir() else []
    return {folder.name: find_intent(folder) for folder in folders if not _is_begun(folder)}


def guests(names: Names) -> Iterator[Guest]:
    """Yield what ties the link of each instance that has a folder, where that was written down."""
    yield from (intent.guest for intent in all_intents(names).values() if intent is not None and intent.guest)


def in_the_making(intent: Intent) -> bool:
    """Tell whether somebody alive may just now be making it, whom the caller has not heard of yet."""
    return processes.lives(intent.maker) and _uptime() - intent.made_at < _YOUNG_S


def _is_begun(folder: Path) -> bool:
    pid = folder.name[1:].partition(".")[0]
    if not folder.name.startswith(".") or not (pid.isascii() and pid.isdigit()):
        return False
    maker = processes.identify(int(pid))
    return maker is not None and folder.name.startswith(f".{_words(maker)}-")


def _words(maker: Process) -> str:
    """Return what a folder that ``maker`` has begun is called after: there is no '-' in it."""
    return f"{maker.pid}.{maker.start_time}.{maker.boot_id.replace('-', '')}"


def _write(path: Path, data: Any) -> None:
    """A machine that crashes leaves no instance either."""
    durable.write(path, json.dumps(data).encode(), mode=0o644, lasting=False)


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return from_json(kind, parse(durable.read(path)))
    except (OSError, ValueError):
        return None


def _uptime() -> int:
    return int(time.clock_gettime(time.CLOCK_BOOTTIME))
