"""What stands in for what nobody can read any more, so that one damaged file hides nothing else of an instance.

The damage itself is a finding. All the rest is held against the next best witness: what was written down of the
instance, and where that is gone too, the kernel.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from instar import durable
from instar.errors import HostError
from instar.frozen import dataclass
from instar.host.filesystems.layers import LayerImages
from instar.host.processes import proc, processes
from instar.model.codec import parse
from instar.model.digest import Digest
from instar.model.drift import Finding
from instar.model.image import Image, ImageConfig, Layer
from instar.process import Process
from instar.providers.base import Subject
from instar.providers.local import allocations, record
from instar.providers.local.creation import CreationOrder
from instar.providers.local.inspection import facts
from instar.providers.local.inspection.facts import Facts
from instar.providers.local.names import InstanceNames


@dataclass(frozen=True, kw_only=True, slots=True)
class _Start:
    user: str
    env: Mapping[str, str]


def with_image(subject: Subject, names: InstanceNames) -> Subject:
    """Return the subject with its image; where the store cannot give it, with what the instance has of it."""
    if subject.image is not None:
        return subject
    process = _from_bundle(names) or _from_kernel(names) or _Start(user="0:0", env={})
    made, intent = facts.read(names), record.find_intent(names.folder)
    known = intent.layers if intent is not None else made.layers if made is not None else ()
    layers = tuple(_layer(diff_id) for diff_id in reversed(known[:-1]))  # the last is the plate
    config = ImageConfig(architecture="", user=process.user, command=(), env=process.env)
    image = Image(
        digest=subject.release.image, config_digest=subject.release.image, config=config, layers=layers, created=0
    )
    return replace(subject, image=image)


def facts_of(order: CreationOrder, process: Process, images: LayerImages) -> Facts | None:
    """Return what an instance is like now, where what it was like is lost: it is held against itself, and what follows
    from its release against that. None where it can't be looked at, or has just ended."""
    table: dict[str, list[proc.Mount]] = {}
    try:
        for one in proc.mounts():
            table.setdefault(one.point, []).append(one)
        intent = record.find_intent(order.names.folder)
        layers = intent.layers if intent else [layer.diff_id for layer in reversed(order.image.layers)]
        found = [(layer, images.device(layer, table) or "") for layer in layers]
        made = facts.look(order.names, process, found, modes={}, seals={}, guest=intent.guest if intent else None)
    except (OSError, HostError, ValueError):
        return None
    return replace(made, token="", marked=False)


def _layer(diff_id: Digest) -> Layer:
    return Layer(digest=diff_id, diff_id=diff_id, size_bytes=0)


def unaddressed(names: InstanceNames) -> tuple[Finding, ...]:
    """Return what is to be told of an instance of which nothing readable says its address: of one that runs that it
    cannot be looked at; another has just ended, and is no finding."""
    process = allocations.process_of(names)
    if process is None or not processes.lives(process):
        return ()
    path, expected = str(names.allocation), "its address, and which process it is"
    return (Finding(instance=names.name, kind="record", path=path, expected=expected, observed="nothing readable"),)


def _from_bundle(names: InstanceNames) -> _Start | None:
    """What runc was told; drift knows its hash."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        process: Any = parse(durable.read(names.folder / "config.json"))["process"]
        user = f"{int(process['user']['uid'])}:{int(process['user']['gid'])}"
        return _Start(user=user, env=_variables(map(str, process["env"])))
    return None


def _from_kernel(names: InstanceNames) -> _Start | None:
    process = allocations.process_of(names)
    with contextlib.suppress(OSError, ValueError, KeyError, AttributeError):
        assert process is not None
        status, mapping = proc.status(process.pid), proc.read(f"/proc/{process.pid}/uid_map").split()
        first = int(mapping[1]) if int(mapping[2]) < 1 << 31 else 0
        words = (os.fsdecode(word) for word in proc.words(process.pid, "environ"))
        return _Start(user=f"{status.users[0] - first}:{status.groups[0] - first}", env=_variables(words))
    return None


def _variables(words: Any) -> Mapping[str, str]:
    return {name: value for name, _, value in (word.partition("=") for word in words)}
