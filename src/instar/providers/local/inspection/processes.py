"""What an instance's processes are, against what they may be: whose children, with which code, as whom.

All of it is looked at more than once before it counts: a program that is just being started is runc for a moment.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import Final

from instar.frozen import dataclass
from instar.host.isolation import seccomp_filter
from instar.host.isolation.runc import CHECK_MARK
from instar.host.kernel import cgroups
from instar.host.processes import marks, proc, processes
from instar.host.processes.proc import Mapped, Status
from instar.model.capabilities import CAPABILITIES
from instar.model.drift import Finding
from instar.model.printable import printable
from instar.process import Process
from instar.providers.local.inspection import opened

_OF_THE_KERNEL: Final = ("[vdso]", "[vsyscall]")
_NO_FILE: Final = "0:0"
_RUNC_INSIDE: Final = "runc:["  # "runc:[1:CHILD]", then "runc:[2:INIT]"
_BEGINS_S: Final = 10.0
_TOLD_AT_MOST: Final = 3
_ROUNDS: Final = 8
_STOPPED: Final = ("T", "t")
_GONE = (FileNotFoundError, ProcessLookupError, ValueError, KeyError)
_MAY_CHANGE_ROOT, _MAY_CHANGE_USER, _MAY_CHANGE_GROUP = ("SYS_CHROOT", "SETUID", "SETGID")


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowed:
    """What the processes of an instance may be. Ids are those of this machine, ``ids`` all that the instance has;
    ``capabilities`` have no CAP_, ``mask`` is theirs. ``devices``: where its image's files are. ``own``: the kinds of
    namespaces that it doesn't share with this machine. ``limits``: as the kernel shows them of ``first``, with its
    ``mark``, which all that descend from it carry. ``rlimits``, ``oom_score``: those that it was made with; a process
    may tighten them for itself. An older Instar wrote none of the three down. ``mounts``: the numbers of its mounts;
    ``queues``: the devices of its message queues."""

    instance: str
    first: Process
    group: str
    namespaces: Mapping[str, str]
    own: Collection[str]
    root: tuple[int, ...]
    devices: Collection[str]
    user: int
    of_group: int
    ids: range
    capabilities: Collection[str]
    mask: int
    jit: bool
    token: str
    limits: bytes = b""
    mark: int | None = None
    rlimits: Mapping[str, int] = field(default_factory=dict)
    oom_score: int | None = None
    mounts: Collection[int] = ()
    queues: Collection[str] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A process that has to do with the instance. ``process`` is what was asked: the one with ``pid``, or a thread."""

    pid: int
    process: Process
    status: Status
    namespaces: Mapping[str, str]
    in_group: bool

    @property
    def shown(self) -> str:
        """Its pid and name; a name is whatever its process chose."""
        name = printable(self.status.name)
        return f"process {self.pid} ({name})"


Found = tuple[Process, Finding]


def members(
    allowed: Allowed, groups: Sequence[frozenset[int]], elsewhere: Collection[int], known: Mapping[int, Member] = {}
) -> tuple[Member, ...]:
    """Return the processes of the instance's ``groups``, one a hierarchy, and those of ``elsewhere`` that are in a
    namespace of its own; of those that are ``known``, by pid, what is known."""
    everywhere = frozenset.intersection(*groups) if groups else frozenset()
    listed = frozenset().union(*groups)
    pids = sorted({allowed.first.pid, *elsewhere, *listed})
    found = [known.get(pid) or _member(pid, in_group=pid in everywhere) for pid in pids]
    return tuple(
        member
        for member in found
        if member is not None
        and not member.status.dead
        and (member.pid in listed or member.process == allowed.first or _shares(allowed, member))
    )


def _shares(allowed: Allowed, member: Member) -> bool:
    """Tell whether it is in a namespace of the instance's own: a pid that was seen there may be another's by now."""
    return any(member.namespaces[kind] == allowed.namespaces[kind] for kind in allowed.own)


def sharers(wanted: Mapping[str, str]) -> dict[str, set[int]]:
    """Return the processes that are in a namespace of an instance's own, by the instance.

    ``wanted`` says whose a namespace is: its text → the instance's name.
    """
    found: dict[str, set[int]] = {}
    for pid in proc.pids():
        thread = proc.living_thread(pid)
        if thread is None:
            continue
        with contextlib.suppress(OSError):
            for kind in ("net", "mnt", "pid", "ipc", "uts", "user"):
                owner = wanted.get(os.readlink(f"/proc/{thread}/ns/{kind}"))  # noqa: PTH115 - six for every process
                if owner is not None:
                    found.setdefault(owner, set()).add(pid)
    return found


def mask_of(capabilities: Collection[str]) -> int:
    return sum(1 << CAPABILITIES.index(name) for name in capabilities if name in CAPABILITIES)


def look(allowed: Allowed, elsewhere: Collection[int], machine: Collection[str], *, deep: bool) -> Iterator[Found]:
    """Yield each difference with the process that it is about. ``elsewhere``: processes that are in a namespace of the
    instance's own; ``machine``: the devices of all that is mounted here.

    While processes come and go, those that have come are looked at too, one moment after the other, so that none gets
    by as it ends, and another one goes on in its place.
    """
    known: dict[int, Member] = {}
    passed: set[int] = set()
    for _ in range(_ROUNDS):
        groups = cgroups.members_by_hierarchy(allowed.group)
        listed = frozenset[int]().union(*groups)
        if passed and listed <= passed:
            return
        passed |= listed
        found = members(allowed, groups, elsewhere, known)
        new = [member for member in found if member.pid not in known]
        yield from _seen(allowed, found, new, machine, deep=deep)
        known = {member.pid: member for member in found}


def _seen(
    allowed: Allowed, found: Sequence[Member], new: Sequence[Member], machine: Collection[str], *, deep: bool
) -> Iterator[Found]:
    kin, pids = _kin(allowed, found), {member.pid for member in found}
    for member in new:
        if _begins(allowed, member, pids):
            continue
        with contextlib.suppress(*_GONE):
            seen = [*_differences(allowed, member, kin, deep=deep), *_elsewhere(allowed, member, machine)]
            differences = list(_gathered(seen))
            if differences and processes.lives(member.process):
                yield from ((member.process, finding) for finding in differences)


def _differences(allowed: Allowed, member: Member, kin: _Kin, *, deep: bool) -> Iterator[Finding]:
    origin = _foreign_origin(allowed, member, kin)
    if origin is not None:
        yield _finding(allowed, "process", member, "a descendant of the instance's first process", origin)
    if member.status.tracer:
        yield _finding(allowed, "process", member, "nobody debugs it", f"process {member.status.tracer} does")
    elif member.status.state in _STOPPED and member.process == allowed.first:
        yield _finding(allowed, "process", member, "it runs", "it is stopped")
    for kind, wanted in allowed.namespaces.items():
        if member.namespaces[kind] != wanted:
            yield _finding(allowed, "process", member, "in all of its namespaces", f"in another {kind} namespace")
    if _MAY_CHANGE_ROOT not in allowed.capabilities and proc.root(member.process.pid) != tuple(allowed.root):
        yield _finding(allowed, "root", member, "the instance's root", "another one")
    yield from _privileges(allowed, member)
    yield from _limits(allowed, member)
    yield from _code(allowed, member, proc.executable(member.process.pid), "runs")
    if deep:
        yield from _filters(allowed, member)
        yield from _code(
            allowed, member, proc.overwritten(member.process.pid), "has overwritten in memory", any_device=True
        )


def _elsewhere(allowed: Allowed, member: Member, machine: Collection[str]) -> Iterator[Finding]:
    if not allowed.mounts or member.namespaces["mnt"] != allowed.namespaces["mnt"]:
        return  # which says it all
    for told in opened.elsewhere(member.process.pid, allowed.mounts, allowed.queues, machine):
        name = printable(told)
        yield _finding(allowed, "root", member, "works, and has files open, in the instance alone", name)


def _gathered(differences: Iterable[Finding]) -> Iterator[Finding]:
    """Yield one finding of each kind: a stranger that runs a dozen foreign files is one thing to be told of."""
    by_kind: dict[str, list[Finding]] = {}
    for finding in differences:
        by_kind.setdefault(finding.kind, []).append(finding)
    for found in by_kind.values():
        expected = ", ".join(dict.fromkeys(finding.expected for finding in found))
        observed = list(dict.fromkeys(finding.observed for finding in found))
        more = f" and {len(observed) - _TOLD_AT_MOST} more" if len(observed) > _TOLD_AT_MOST else ""
        yield replace(found[0], expected=expected, observed=", ".join(observed[:_TOLD_AT_MOST]) + more)


def _privileges(allowed: Allowed, member: Member) -> Iterator[Finding]:
    status = member.status
    users = allowed.ids if _MAY_CHANGE_USER in allowed.capabilities else (allowed.user,)
    groups = allowed.ids if _MAY_CHANGE_GROUP in allowed.capabilities else (allowed.of_group,)
    for noun, ids, allowed_ids, wanted in (
        ("user", status.users, users, allowed.user),
        ("group", (*status.groups, *status.more_groups), groups, allowed.of_group),
    ):
        others = sorted({one for one in ids if one not in allowed_ids})
        if others:
            observed = ", ".join(
                str(one - allowed.ids.start) if one in allowed.ids else f"{one} of the machine" for one in others
            )
            yield _finding(allowed, "privilege", member, f"{noun} {wanted - allowed.ids.start}", f"{noun} {observed}")
    more = 0
    for mask in status.capabilities.values():
        more |= mask & ~allowed.mask
    if more:
        names = [name for bit, name in enumerate(CAPABILITIES) if more >> bit & 1] or [hex(more)]
        yield _finding(allowed, "privilege", member, _listed(sorted(allowed.capabilities)), f"also {_listed(names)}")
    if not status.no_new_privileges:
        yield _finding(allowed, "privilege", member, "no new privileges", "may gain some by running a program")
    if not status.filtered:
        yield _finding(allowed, "privilege", member, "system calls filtered", "not filtered")


def _limits(allowed: Allowed, member: Member) -> Iterator[Finding]:
    """A process may tighten what it has, and so may its children; nothing inside can loosen it."""
    pid = member.process.pid
    text = marks.text_of(pid) if allowed.rlimits else allowed.limits
    for name, there in marks.hard(text).items() if text != allowed.limits else ():
        wanted = allowed.rlimits.get(name, -1)
        if marks.is_looser(there, wanted):
            observed = f"{name} {'without a limit' if there == -1 else there}"
            yield _finding(allowed, "limit", member, f"{name} at most {wanted}", observed)
    if allowed.oom_score is not None and (score := proc.oom_score(pid)) < allowed.oom_score:
        expected = f"out-of-memory score {allowed.oom_score} or more"
        yield _finding(allowed, "limit", member, expected, f"out-of-memory score {score}")


def _filters(allowed: Allowed, member: Member) -> Iterator[Finding]:
    """Compare the first filter of system calls with the first process's: a process can only add others to it."""
    try:
        wanted, there = (seccomp_filter.digests(pid) for pid in (allowed.first.pid, member.process.pid))
    except (ProcessLookupError, FileNotFoundError):
        return
    except OSError as error:
        cause = error.strerror or str(error)
        yield _finding(allowed, "privilege", member, "its filter of system calls can be looked at", cause)
        return
    if wanted is not None and there is not None and wanted[-1:] != there[-1:]:
        yield _finding(allowed, "privilege", member, "the instance's filter of system calls", "another one")


def _code(
    allowed: Allowed, member: Member, mapped: Iterator[Mapped], verb: str, *, any_device: bool = False
) -> Iterator[Finding]:
    for one in sorted(mapped):
        if one.name in _OF_THE_KERNEL and not one.inode:
            continue
        anonymous = one.device == _NO_FILE and not one.inode
        if (one.device in allowed.devices and not any_device) or (anonymous and allowed.jit):
            continue
        name = printable(one.name)
        expected = "code of the image"
        if anonymous and not any_device:
            expected = "code of the image (one that makes its own, as java, node, PostgreSQL or PHP do, says jit: true)"
        observed = f"{verb} {name or 'memory that is no file'}" + ("" if anonymous else f" on device {one.device}")
        yield _finding(allowed, "code", member, expected, observed)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kin:
    """The pids of ``all`` that descend from the first process or from commands that Instar runs inside, and of
    ``ours``: the latter."""

    all: Collection[int]
    ours: Collection[int]


def _kin(allowed: Allowed, found: Sequence[Member]) -> _Kin:
    parents = {member.pid: member.status.parent for member in found}
    orphans = {pid for pid, parent in parents.items() if parent not in parents and pid != allowed.first.pid}
    ours = _with_descendants({pid for pid in orphans if _is_ours(pid, parents[pid], allowed.token)}, parents)
    return _Kin(all=_with_descendants({allowed.first.pid, *ours}, parents), ours=ours)


def _with_descendants(roots: Collection[int], parents: Mapping[int, int]) -> set[int]:
    related = set(roots)
    for pid in parents:
        line, at = [], pid
        while at in parents and at not in related and at not in line:
            line.append(at)
            at = parents[at]
        if at in related:
            related.update(line)
    return related


def _foreign_origin(allowed: Allowed, member: Member, kin: _Kin) -> str | None:
    """Say where the process comes from, if not from the instance's first one.

    The init takes in whoever has lost its parent inside, also somebody from outside: it does not carry the mark.
    """
    if member.pid not in kin.all:
        return "started from outside"
    if not member.in_group:
        return "not in the instance's control group"
    if allowed.mark is None or member.pid in kin.ours:
        return None
    if marks.carried(marks.text_of(member.process.pid)) == allowed.mark:
        return None
    own = _has_word(member.pid, "environ", f"{CHECK_MARK}={allowed.token}")  # left over from a command of Instar's
    return None if own else "put in from outside, and taken in by the init"


def _is_ours(pid: int, parent: int, token: str) -> bool:
    """Instar's own commands inside carry the instance's mark; who can read it has no need to. A command that clears
    its environment has lost it: runc, whose child it is, has it too."""
    return _has_word(pid, "environ", f"{CHECK_MARK}={token}") or _is_asked_for(parent, token)


def _is_asked_for(parent: int, token: str) -> bool:
    return _has_word(parent, "cmdline", f"--env={CHECK_MARK}={token}")


def _has_word(pid: int, file: str, word: str) -> bool:
    with contextlib.suppress(OSError):
        return word.encode() in proc.words(pid, file)
    return False


def _begins(allowed: Allowed, member: Member, members: Collection[int]) -> bool:
    """Tell whether it is the first process, or a command of Instar's, and has not begun yet: until then it is runc,
    with all that runc may. In an instance that has used up its share of the processors, that takes long.

    The runc that asked for it is none of the ``members``: inside, anybody can choose runc's words.
    """
    parent = member.status.parent
    return is_runc_yet(member.status, member.process) and (
        member.process == allowed.first or (parent not in members and _is_asked_for(parent, allowed.token))
    )


def is_runc_yet(status: Status, process: Process) -> bool:
    """Tell whether a process looks like one that runc is about to make a command of."""
    return status.name.startswith(_RUNC_INSIDE) and proc.age_s(process.start_time) <= _BEGINS_S


def _member(pid: int, *, in_group: bool) -> Member | None:
    thread = proc.living_thread(pid)
    process = None if thread is None else processes.identify(thread)
    if process is None:
        return None
    try:
        status, spaces = proc.status(process.pid), proc.namespaces(process.pid)
    except (OSError, ValueError, KeyError):
        return None
    return Member(pid=pid, process=process, status=status, namespaces=spaces, in_group=in_group)


def _finding(allowed: Allowed, kind: str, member: Member, expected: str, observed: str) -> Finding:
    return Finding(instance=allowed.instance, kind=kind, path=member.shown, expected=expected, observed=observed)


def _listed(names: Sequence[str]) -> str:
    return f"capabilities {', '.join(names)}" if names else "no capabilities"
