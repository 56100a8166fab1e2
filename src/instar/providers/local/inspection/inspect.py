"""All that is asked of instances at a check, put together: looked at one after the other, and together again."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from typing import Final

from instar.errors import InstarError
from instar.frozen import dataclass
from instar.host.filesystems.layers import LayerImages
from instar.host.isolation import runc
from instar.host.kernel import namespaces
from instar.host.processes import marks, proc, processes
from instar.model.digest import Digest
from instar.model.drift import Finding
from instar.process import Process
from instar.providers.local import allocations, creation, record
from instar.providers.local.creation import CreationOrder
from instar.providers.local.inspection import facts, outside, surface, ties, unread
from instar.providers.local.inspection import processes as members
from instar.providers.local.inspection.case import Case
from instar.providers.local.inspection.facts import Facts
from instar.providers.local.inspection.outside import Outside
from instar.providers.local.inspection.processes import Allowed
from instar.providers.local.inspection.ties import Ties
from instar.providers.local.names import InstanceNames
from instar.syscalls import boot_id
from instar.threads import at_once

AGAIN_AFTER_S: Final = (0.03, 0.1, 0.4)
_WHOEVER: Final = frozenset({"code", "privilege", "root", "limit", "listener"})
"""Kinds of what no process may be seen with, however short it lives: found where each look sees one, if another."""


def inspect(orders: Sequence[CreationOrder], images: LayerImages, *, deep: bool) -> Iterator[Finding]:
    """Yield what is not as it was made, of every instance that runs. One that has ended has no findings, unless
    something else runs in its place."""
    cases = []
    for order in orders:
        process = _first_process(order.names)
        if process is None or process.boot_id != boot_id():
            continue
        made = facts.read(order.names)
        if made is None and processes.lives(process):
            yield _unwritten(order.names)
            made = unread.facts_of(order, process, images)
        if made is not None:
            cases.append(_case(order, process, made))
    yield from _persistent(cases, images, deep=deep)


def _first_process(names: InstanceNames) -> Process | None:
    """Return what an instance's first process was when it was made: where its folder says otherwise, that is found."""
    known = allocations.find(names)
    return known.process if known is not None and known.process is not None else record.find_process(names)


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What is looked up once for all instances. ``mounted``: all devices of this machine's;
    ``sharers``: processes that are in a namespace of an instance's
    own; ``unsound``: diff ID → what is wrong with the layer; ``devices``: diff ID → where it is now; ``ties``: what
    ties their links."""

    mounts: Mapping[str, Sequence[proc.Mount]]
    mounted: Collection[str]
    sharers: Mapping[str, Collection[int]]
    unsound: Mapping[str, str]
    devices: Mapping[str, str]
    outside: Outside | None
    ties: Ties


def _look_around(cases: Sequence[Case], images: LayerImages, *, deep: bool) -> Surroundings:
    table: dict[str, list[proc.Mount]] = {}
    for one in proc.mounts():
        table.setdefault(one.point, []).append(one)
    mine = set(proc.namespaces("self").values())
    owners = {space: case.names.name for case in cases for space in case.made.namespaces.values() if space not in mine}
    layers = sorted({diff_id for case in cases for diff_id in case.made.layers})
    unsound, devices = _examine(layers, images, table, _Notes.of(cases, images), deep=deep)
    return Surroundings(
        mounts=table,
        mounted={one.device for points in table.values() for one in points},
        sharers=members.sharers(owners),
        unsound=unsound,
        devices=devices,
        outside=outside.look(cases),
        ties=ties.look(cases[0].names.of),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Notes:
    """What the notes of layers say now that those of an instance did not say when it was made. ``rehashed``: bytes that
    hash to something else; ``renoted``: only the file is another one, or the note: its bytes are read again."""

    rehashed: Collection[Digest]
    renoted: Collection[Digest]

    @classmethod
    def of(cls, cases: Sequence[Case], images: LayerImages) -> _Notes:
        rehashed, renoted = set(), set()
        for layer, seal in {item for case in cases for item in case.made.seals.items() if item[1]}:
            with contextlib.suppress(OSError):  # it is not there: that is found
                now = images.seal(Digest(layer))
                if now and now.partition(" ")[0] != seal.partition(" ")[0]:
                    rehashed.add(Digest(layer))
                elif now != seal and (layer, now) not in _READ_AGAIN:
                    renoted.add(Digest(layer))
        return cls(rehashed=rehashed, renoted=renoted)


_READ_AGAIN: Final = set[tuple[str, str]]()  # by this process, and found to be as they were


def _examine(
    layers: Sequence[Digest],
    images: LayerImages,
    table: Mapping[str, Sequence[proc.Mount]],
    notes: _Notes,
    *,
    deep: bool,
) -> tuple[dict[str, str], dict[str, str]]:
    """Return what is wrong with layers, and the devices that they are on; several are hashed at once."""

    def examine(layer: Digest) -> str | None:
        try:
            if layer in notes.rehashed:
                return "its bytes are noted as others than when the instance was made"
            cause = images.examine(layer, table, deep=deep or layer in notes.renoted)
            if cause is None and layer in notes.renoted:
                _READ_AGAIN.add((layer, images.seal(layer)))
            return cause
        except (OSError, ValueError, InstarError) as error:  # it went meanwhile, and then who stood on it too
            return str(error)

    causes = at_once(examine, layers, at_most=os.cpu_count() or 1) if deep else [examine(layer) for layer in layers]
    unsound = {str(layer): cause for layer, cause in zip(layers, causes, strict=True) if cause is not None}
    devices = {str(layer): device for layer in layers if (device := images.device(layer, table)) is not None}
    return unsound, devices


def _persistent(cases: Sequence[Case], images: LayerImages, *, deep: bool) -> Iterator[Finding]:
    """Yield what is found at each of several looks: a program that is being started is runc for a moment.

    All is looked up anew each time; what a deep look found damaged is no longer taken for read by the others.
    """
    if not cases:
        return
    around = _look_around(cases, images, deep=deep)
    found = [(case, _findings_now(case, around, deep=deep)) for case in cases]
    for pause_s in AGAIN_AFTER_S:
        found = [(case, findings) for case, findings in found if findings]
        if not found:
            return
        time.sleep(pause_s)
        around = _look_around([case for case, _ in found], images, deep=False)
        found = [(case, _in_both(findings, _findings_now(case, around, deep=deep))) for case, findings in found]
    yield from dict.fromkeys(finding for _, findings in found for finding in _lasting(findings))


def _in_both(before: Mapping[Hashable, Finding], now: Mapping[Hashable, Finding]) -> dict[Hashable, Finding]:
    return {key: now[key] for key in before if key in now}


def _lasting(findings: Mapping[Hashable, Finding]) -> Iterator[Finding]:
    """Yield what was found at each look: of a kind, the one of the last look where no process had it at all."""
    lasting = {finding.kind for key, finding in findings.items() if key not in _WHOEVER}
    yield from (one for key, one in findings.items() if key not in _WHOEVER or one.kind not in lasting)


def _findings_now(case: Case, around: Surroundings, *, deep: bool) -> dict[Hashable, Finding]:
    """Return the findings, each with what it is known by at the next look: some by their kind too."""
    found: dict[Hashable, Finding] = {}
    waits = runc.waits(case.names.of.state.runc, case.names.name)
    if not waits:
        sharers = around.sharers.get(case.names.name, ())
        for process, finding in members.look(case.allowed, sharers, around.mounted, deep=deep):
            found[process, finding.kind] = finding
    others = [
        *surface.differences(case, begun=not waits),
        *_standing(case, around),
        *outside.differences(case, around.outside),
        *ties.differences(case, around.ties),
    ]
    if processes.lives(case.process):  # else it has ended meanwhile, and what is not there went with it
        found.update({finding: finding for finding in others})
    return found | {finding.kind: finding for finding in found.values() if finding.kind in _WHOEVER}


def _standing(case: Case, around: Surroundings) -> Iterator[Finding]:
    """Yield what is wrong with what its root stands on."""
    wanted = [layer.diff_id for layer in reversed(case.order.image.layers)]
    above = len(case.made.layers) - len(wanted) - 1  # a cover, or nothing; below is the plate
    if above not in (0, 1) or list(case.made.layers[above:-1]) != wanted:
        yield case.finding("root", "/", "the layers of its image", "others")
    here = around.mounts.get(str(case.names.root), ())
    if [one.device for one in here] != [case.made.overlay]:
        yield case.finding("root", str(case.names.root), "the instance's root alone", f"{len(here)} mounts")
    for diff_id, device in zip(case.made.layers, case.made.devices, strict=True):
        cause = around.unsound.get(diff_id)
        if cause is None and around.devices.get(diff_id, device) != device:
            cause = "it was mounted anew since: what this instance has is another one"
        if cause is not None:
            yield case.finding("blob", f"layer {diff_id}", "as it was baked", cause)


def _case(order: CreationOrder, process: Process, made: Facts) -> Case:
    uid, gid = order.user
    machine = proc.namespaces("self")
    shifted = made.namespaces["user"] != machine["user"]
    first = creation.ids_of(order.names).first if shifted else 0
    service = order.release.service
    capabilities = [name.removeprefix("CAP_") for name in service.capabilities]
    allowed = Allowed(
        instance=order.names.name,
        first=process,
        group=order.names.group,
        namespaces=made.namespaces,
        own=[kind for kind, space in made.namespaces.items() if space != machine[kind]],
        root=made.root,
        devices={made.overlay, *made.devices},
        user=first + uid,
        of_group=first + gid,
        ids=range(first, first + namespaces.ID_COUNT),
        capabilities=capabilities,
        mask=members.mask_of(capabilities),
        jit=service.jit,
        token=made.token,
        limits=(limits := _limits_of(process)),
        mark=marks.carried(limits) if made.marked else None,
        rlimits=made.rlimits,
        oom_score=made.oom_score,
        mounts=frozenset(facts.mount_numbers(made.mounts)),
        queues={line.split("\t")[2] for line in made.mounts if line.split("\t")[1] == "mqueue"},
    )
    return Case(names=order.names, process=process, made=made, allowed=allowed, order=order)


def _limits_of(process: Process) -> bytes:
    """Return the first process's limits: whether its mark is what was written down is a question of its own."""
    with contextlib.suppress(OSError):
        return marks.text_of(process.pid)
    return b""


def _unwritten(names: InstanceNames) -> Finding:
    return Finding(
        instance=names.name,
        kind="record",
        path=str(names.made),
        expected="what the instance was like when it was made",
        observed="nothing: an older Instar made it, or somebody took it away",
    )
