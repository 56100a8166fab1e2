"""What an instance stands in besides its processes: mounts, settings, network, limits, files, its keeper."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Set
from pathlib import Path

from instar import durable
from instar.errors import InstarError
from instar.host.filesystems import base_plate
from instar.host.isolation import conmon
from instar.host.kernel import cgroups
from instar.host.network.network_view import Listener
from instar.host.processes import marks, proc
from instar.model.digest import Digest
from instar.model.drift import Finding
from instar.model.keyed import keyed_digest
from instar.providers.commands import command_of
from instar.providers.local import allocations, record
from instar.providers.local.creation import environment
from instar.providers.local.inspection import facts, modes
from instar.providers.local.inspection.case import Case
from instar.providers.local.inspection.processes import is_runc_yet
from instar.providers.local.names import SECRETS

_SECRET_LIMIT = 1 << 20
_KINDS = {"config.json": "bundle", "state.json": "runtime", "instance.json": "record"}


def differences(case: Case, *, begun: bool) -> Iterator[Finding]:
    """Yield everything that is not as it was made; what can't be looked at is a finding itself.

    ``begun``: the instance no longer waits to begin.
    """
    for kind, part in _PARTS.items():
        if begun or kind != "command":
            try:
                yield from part(case)
            except (OSError, InstarError, ValueError, KeyError) as error:
                cause = error.message if isinstance(error, InstarError) else getattr(error, "strerror", None)
                yield case.finding(_TOLD_AS.get(kind, kind), "all of it", "it can be looked at", cause or str(error))


def _inside(case: Case) -> Iterator[Finding]:
    """Yield what is found from inside of its namespaces."""
    inside = facts.look_inside(case.process.pid, case.made.settings)
    yield from _changed(case, "sysctl", case.made.settings, inside.settings)
    yield from _network(case, inside)
    yield from _listeners(case, inside)


def _limits(case: Case) -> Iterator[Finding]:
    yield from _changed(case, "limit", case.made.limits, facts.limits(case.names.group, case.made.limits))
    if cgroups.is_frozen(case.names.group):
        yield case.finding("limit", "freezer", "its processes run", "they are frozen")
    for name in cgroups.below(case.names.group):
        yield case.finding("limit", f"group {name}", "no groups below its own", "it is there")
    for name, number in marks.hard(marks.text_of(case.process.pid)).items() if case.made.rlimits else ():
        if (wanted := case.made.rlimits.get(name, number)) != number:
            yield case.finding("limit", f"{name} of its first process", _or_none(wanted), _or_none(number))


def _or_none(number: int) -> str:
    return "no limit" if number == -1 else str(number)


def _mounts(case: Case) -> Iterator[Finding]:
    wanted, there = set(case.made.mounts), set(facts.mount_lines(case.process.pid))
    missing = {_point(line): line for line in wanted - there}
    extra = {_point(line): line for line in there - wanted}
    for at in sorted(missing.keys() | extra.keys()):
        point, expected, observed = at[0], missing.get(at), extra.get(at)
        if expected is None:
            yield case.finding("mount", point, "nothing more is mounted here", _shown(observed))
        else:
            yield case.finding("mount", point, _shown(expected), _shown(observed))


def _point(line: str) -> tuple[str, str]:
    """Return a mount's point and its number, which another one at the same point doesn't have."""
    fields = line.split("\t")
    return fields[0], fields[5]


def _shown(line: str | None) -> str:
    if line is None:
        return "not mounted"
    _, kind, device, root, options, _, _, shared, of_all = line.split("\t")
    what = kind if root == "/" else f"{root} of {kind} {device}"
    more = [option for option in of_all.split(",") if option not in options.split(",")]
    return " ".join(part for part in (what, options, shared, ",".join(more)) if part)


def _changed(case: Case, kind: str, wanted: Mapping[str, str], there: Mapping[str, str]) -> Iterator[Finding]:
    """What is not there any more can't be read by anybody, and counts for nothing."""
    if wanted == there:
        return
    for name, value in wanted.items():
        if there.get(name, value) != value:
            yield case.finding(kind, name, value, there[name])


def _network(case: Case, inside: facts.Inside) -> Iterator[Finding]:
    nouns = ("links", "addresses", "routes", "rules", "tables")
    for noun in (*nouns, "neighbours") if case.made.network.neighbours else nouns:
        wanted, there = set(getattr(case.made.network, noun)), set(getattr(inside.network, noun))
        for line in sorted(wanted - there):
            yield case.finding("network", noun, line, "not there")
        for line in sorted(there - wanted):
            yield case.finding("network", noun, "not there", line)


def _listeners(case: Case, inside: facts.Inside) -> Iterator[Finding]:
    service = case.order.release.service
    ports = [port for port in (service.port, *(one.port for one in service.ports.values())) if port is not None]
    for one in inside.listeners:
        if not (one.protocol == "tcp" and one.port in ports) and not _is_a_client(one, inside):
            shown = f"port {ports[0]}" if len(ports) == 1 else f"ports {', '.join(map(str, ports))}"
            expected = f"tcp {shown} alone" if ports else "nothing listens"
            yield case.finding("listener", str(one), expected, "it listens")


def _is_a_client(one: Listener, inside: facts.Inside) -> bool:
    """A socket of udp that asks somebody looks like one that waits, but for its port."""
    return one.protocol == "udp" and one.port >= inside.first_ephemeral_port


def _files(case: Case) -> Iterator[Finding]:
    there = facts.hashes(case.names)
    for name, wanted in case.made.hashes.items():
        kind = _KINDS.get(name, "file")
        if there[name] != wanted:
            observed = "another content" if there[name] else "it is not there"
            yield case.finding(kind, name, "as it was made", observed)
        elif kind == "file" and not _shows(case, f"etc/{name}", case.names.folder / name):
            yield case.finding(kind, f"/etc/{name}", f"the instance's own {name}", "another file")


def _shows(case: Case, inside: str, path: Path) -> bool:
    """Tell whether ``inside`` is the very file at ``path``."""
    shown, own = _stat(f"/proc/{case.process.pid}/root/{inside}"), _stat(str(path))
    return shown is not None and shown == own


def _stat(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _modes(case: Case) -> Iterator[Finding]:
    """Yield what has another owner or mode, came or went."""
    wanted = case.made.modes
    there = modes.modes(case.process.pid) if wanted else {}
    for path in sorted(wanted.keys() | there.keys()):
        expected, observed = wanted.get(path, "not there"), there.get(path, "not there")
        if expected == observed:
            continue
        if path.startswith(f"{SECRETS}/") and "not there" not in (expected, observed):
            yield case.finding("secret", path.removeprefix(f"{SECRETS}/"), expected, observed)
        elif not path.startswith(f"{SECRETS}/"):  # which secrets there are is held against the release
            yield case.finding("file", path, expected, observed)


def _secrets(case: Case) -> Iterator[Finding]:
    """Compare without a word of what is in them: by the digest that the release has."""
    wanted = case.order.release.configuration.secrets
    if not wanted:
        return
    key = durable.read(case.names.of.state.secret_key)
    folder = f"/proc/{case.process.pid}/root{SECRETS}"
    there = set(os.listdir(folder))  # noqa: PTH208 - names are all that is asked for
    for name, digest in wanted.items():
        content = _content(f"{folder}/{name}")
        if content is None or keyed_digest(key, content) != digest:
            observed = "it is not there" if name not in there else "another content"
            yield case.finding("secret", name, "the release's", observed)
    for name in sorted(there - wanted.keys()):
        yield case.finding("secret", name, "no such secret", "a file is there")


def _content(path: str) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read(_SECRET_LIMIT + 1)


def _command(case: Case) -> Iterator[Finding]:
    pid = case.process.pid
    wanted = (base_plate.INIT, "--", *command_of(case.order.instance, case.order.release))
    if is_runc_yet(proc.status(pid), case.process):
        return
    there = tuple(os.fsdecode(word) for word in proc.words(pid, "cmdline"))
    if there != wanted:
        yield case.finding("command", "command line", " ".join(wanted), " ".join(there))
    variables = {f"{name}={value}" for name, value in environment(case.order).items()}
    found = {os.fsdecode(word) for word in proc.words(pid, "environ")}
    variables |= _secret_variables(case, found)
    if found != variables:
        names = sorted({text.partition("=")[0] for text in found ^ variables})
        yield case.finding("command", "environment", "the release's", f"differs in {', '.join(names)}")


def _secret_variables(case: Case, found: Set[str]) -> Set[str]:
    given = case.order.release.configuration.secrets_as_variables
    return expected_variables(given, durable.read(case.names.of.state.secret_key), found) if given else set()


def expected_variables(given: Mapping[str, Digest], key: bytes, found: Set[str]) -> Set[str]:
    """Return those of the variables ``found`` that are secrets as they were given, known by their digests; of a secret
    that is not among them, its name alone."""
    expected: set[str] = set()
    for name, digest in given.items():
        values = {text.removeprefix(f"{name}=") for text in found if text.startswith(f"{name}=")}
        same = [value for value in values if keyed_digest(key, os.fsencode(value)) == digest]
        expected.add(f"{name}={same[0]}" if same else name)
    return expected


def _keeper(case: Case) -> Iterator[Finding]:
    wanted = "it keeps the instance's output and exit status"
    keeper = conmon.find_keeper(case.names.keeping)
    if keeper is None:
        yield case.finding("runtime", "conmon", wanted, "it is not there")
        return
    status = proc.status(keeper.pid)
    if status.state in ("T", "t"):
        yield case.finding("runtime", "conmon", wanted, "it is stopped")
    if status.tracer:
        yield case.finding("runtime", "conmon", "nobody debugs it", f"process {status.tracer} does")
    if case.made.keeper_counts and not cgroups.is_keeper(case.names.group, keeper.pid):
        yield case.finding("runtime", "conmon", "its time counts to the instance", "it counts to others")
    log = case.names.log
    if not proc.has_open(keeper.pid, log):
        observed = "another file is there" if log.exists() else "it is not there"
        yield case.finding("runtime", str(log), "what conmon writes to", observed)


def _record(case: Case) -> Iterator[Finding]:
    if record.find_process(case.names) != case.process:
        yield case.finding("record", str(case.names.process), "the instance's first process", "another one, or none")
    allocation = allocations.find(case.names)
    if allocation is None or (allocation.process, allocation.address) != (case.process, str(case.order.address)):
        wanted = "the instance's address and first process"
        yield case.finding("record", str(case.names.allocation), wanted, "others, or none")
    carried, there = marks.carried(marks.text_of(case.process.pid)), facts.read(case.names) is not None
    if there and carried != facts.mark(case.names):
        wanted = "what was written down when the instance was made, which its first process carries the mark of"
        yield case.finding("record", str(case.names.made), wanted, "another content, or another mark")


_PARTS: Mapping[str, Callable[[Case], Iterator[Finding]]] = {
    "mount": _mounts,
    "network": _inside,
    "limit": _limits,
    "file": _files,
    "mode": _modes,
    "secret": _secrets,
    "command": _command,
    "runtime": _keeper,
    "record": _record,
}
_TOLD_AS: Mapping[str, str] = {"mode": "file"}
