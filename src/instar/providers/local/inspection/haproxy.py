"""An environment's HAProxy and its holder as they run: what can be changed over the socket, and by who debugs them,
without a word in the file. All of it follows from the file, so that nothing has to be written down."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from instar.errors import RouterError
from instar.frozen import dataclass
from instar.host.processes import proc
from instar.model.drift import Finding
from instar.process import Process
from instar.providers.local.held_haproxy import HeldHaproxy
from instar.providers.local.proxy import Proxy
from instar.router import admin_socket, maintenance, previews, slots
from instar.router.files import HolderRecord
from instar.router.slots import Slots

_RATES: Final = ("ConnRateLimit", "SessRateLimit", "SslRateLimit")
_OPEN: Final = "OPEN"
_FULL: Final = "FULL"
_PATTERNS: Final = re.compile(r"(\d+) \(.*?\) acl '[^']*' file '(?P<file>[^']*)' line (?P<line>\d+)\.", re.ASCII)
_FLAGS_WITH_A_WORD: Final = ("-m", "-f", "-M")
_COMPARED: Final = ("eq", "ge", "gt", "le", "lt")  # numbers, which are not shown as they are written


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionLimits:
    """The connections that a file allows: all, those of a frontend without a limit of its own, and of the others."""

    all: int | None
    usual: int | None
    frontends: Mapping[str, int]


def differences(proxy: Proxy, text: str | None, held: Slots | None) -> Iterator[Finding]:
    """Yield what of HAProxy is not as its file says, which is ``text``, and has the slots ``held``; None where nobody
    can read it. Raises RouterError."""
    yield from in_force(proxy, proxy.files.config, text)
    if text is not None:
        yield from _map(proxy, text, previews.MAP, proxy.files.previews)
        yield from _map(proxy, text, maintenance.MAP, proxy.files.maintenance)
        yield from _page(proxy, text)
    for door, live in proxy.all_live().items():
        for index, one in enumerate(live[: len(held)] if held is not None else live):
            if one.elsewhere or not one.checked:
                observed = one.elsewhere or "its health is not checked any more"
                where = slots.label(index, door).rpartition("/")[2] + (f" of door {door}" if door else "")
                yield _finding(f"slot {where}, its check", "asks the server itself", observed)


def in_force(haproxy: HeldHaproxy, file: Path, text: str | None) -> Iterator[Finding]:
    """Yield what is in force of any HAProxy's that its ``file`` does not say, which is ``text``. Raises RouterError."""
    info, shown, listed, traces = haproxy.ask("show info", "show stat", "show acl", "show trace")
    limits = _limits(text or "")
    yield from _info(admin_socket.read_info(info), limits)
    for (name, row), columns in admin_socket.read_statistics(shown).items():
        if row == "FRONTEND":
            yield from _frontend(name, columns, limits)
        elif slots.doors_of([name]) and row != "BACKEND" and columns["slim"] not in ("", "0"):
            yield _finding(f"slot {row}, its maxconn", "no limit", columns["slim"])
    for source in _TRACED.findall(traces):
        yield _finding(f"trace {source}", "off", "on")
    if text is not None:
        yield from _lists(haproxy, file, text, listed)


_TRACED: Final = re.compile(r"^ *\[[^.\]]\] (\S+)", re.MULTILINE | re.ASCII)  # waiting for its beginning, or running


def processes(record: HolderRecord | None) -> Iterator[Finding]:
    """Yield what is done to the router's processes from outside. A holder gives HAProxy all that it has itself."""
    if record is None:
        return
    for noun, process in (("its holder", record.process), ("HAProxy", record.haproxy)):
        yield from _process(noun, process)
    with contextlib.suppress(OSError, ValueError):  # one has just ended, and is started again
        wanted, there = (dict(_given(one.pid)) for one in (record.process, record.haproxy))
        for name, value in wanted.items():
            if there.get(name, value) != value:
                yield _finding(f"HAProxy (process {record.haproxy.pid})", f"{name} {value}", f"{name} {there[name]}")


def _given(pid: int) -> Iterator[tuple[str, str]]:
    yield "out-of-memory score", str(proc.oom_score(pid))
    yield "niceness", str(os.getpriority(os.PRIO_PROCESS, pid))
    for line in proc.read(f"/proc/{pid}/cgroup").decode(errors="replace").splitlines():
        _, controllers, group = line.split(":", 2)
        yield f"control group {controllers}".strip(), group


def _process(noun: str, process: Process) -> Iterator[Finding]:
    try:
        status = proc.status(process.pid)
    except (OSError, ValueError, KeyError):
        return  # it has just ended, and is started again
    if status.tracer:
        yield _finding(f"{noun} (process {process.pid})", "nobody debugs it", f"process {status.tracer} does")
    if status.state in ("T", "t") and noun != "HAProxy":  # that one does not answer, which says more
        yield _finding(f"{noun} (process {process.pid})", "it runs", "it is stopped")


def _info(info: Mapping[str, str], limits: ConnectionLimits) -> Iterator[Finding]:
    wanted = info.get("Hard_maxconn", "")
    if limits.all is not None:
        wanted = str(min(limits.all, int(wanted or limits.all)))
    if info.get("Maxconn", wanted) != wanted:
        yield _finding("maxconn", wanted, info["Maxconn"])
    for name in _RATES:
        if info.get(name, "0") != "0":
            yield _finding(name, "no limit", info[name])


def _frontend(name: str, columns: Mapping[str, str], limits: ConnectionLimits) -> Iterator[Finding]:
    """HAProxy's own frontends, which are in no file, are told of too: nobody but Instar speaks to it."""
    if columns["status"] not in (_OPEN, _FULL):
        yield _finding(f"frontend {name}", "open", columns["status"].lower())
    wanted = limits.frontends.get(name, limits.usual)
    if wanted is not None and columns["slim"] not in ("", str(wanted)):
        yield _finding(f"frontend {name}, its maxconn", str(wanted), columns["slim"])
    if columns.get("rate_lim", "0") not in ("", "0"):
        yield _finding(f"frontend {name}, its rate", "no limit", columns["rate_lim"])


def _limits(text: str) -> ConnectionLimits:
    section, name, found = "", "", dict[tuple[str, str], int]()
    for line in text.splitlines():
        if line and not line[0].isspace():
            section, _, name = line.partition(" ")
        words = line.split()
        if words[:1] == ["maxconn"] and len(words) > 1 and words[1].isdigit():
            found[section, name.strip()] = int(words[1])
    everything = found.get(("global", ""))
    return ConnectionLimits(
        all=everything,
        usual=found.get(("defaults", ""), everything),
        frontends={name: count for (section, name), count in found.items() if section == "frontend"},
    )


def _lists(haproxy: HeldHaproxy, file: Path, text: str, listed: str) -> Iterator[Finding]:
    """Compare the patterns of conditions with the words of the line that they are of."""
    lines = text.splitlines()
    of_line: dict[int, list[str]] = {}
    for line in listed.splitlines():
        match = _PATTERNS.match(line)
        if match and match["file"] == str(file) and 0 < int(match["line"]) <= len(lines):
            of_line.setdefault(int(match["line"]), []).append(match[1])
    wanted = {number: found for number in of_line if (found := _patterns(lines[number - 1])) is not None}
    ids = [one for number in wanted for one in of_line[number]]
    answers = dict(zip(ids, haproxy.ask(*(f"show acl #{one}" for one in ids)) if ids else (), strict=True))
    for number, expected in wanted.items():
        shown = "\n".join(answers[one].strip() for one in of_line[number])
        there = {line.partition(" ")[2] for line in shown.splitlines() if line}
        if there != expected:
            observed = " ".join(sorted(there)) or "nothing"
            yield _finding(f"haproxy.cfg, line {number}, in force", " ".join(sorted(expected)), observed)


def _patterns(line: str) -> set[str] | None:
    """Return the patterns of all conditions in a line; None where they are not words to be compared."""
    words = line.split()
    conditions = [words[2:]] if words[:1] == ["acl"] else _braced(words)
    found: set[str] = set()
    for condition in conditions:
        rest = _without_flags(condition[1:])
        if rest is None or (rest and rest[0] in _COMPARED) or any('"' in word or "'" in word for word in rest):
            return None
        found.update(rest)
    return found


def _braced(words: Sequence[str]) -> list[list[str]]:
    found: list[list[str]] = []
    inside = False
    for word in words:
        if word in ("{", "!{"):
            inside = True
            found.append([])
        elif word == "}":
            inside = False
        elif inside:
            found[-1].append(word)
    return found


def _without_flags(words: Sequence[str]) -> list[str] | None:
    """Return the patterns after the flags of a condition; None where they come from a file."""
    left = list(words)
    while left and left[0].startswith("-"):
        flag = left.pop(0)
        if flag in ("-f", "-M"):
            return None
        if flag in _FLAGS_WITH_A_WORD and left:
            left.pop(0)
        if flag == "--":
            break
    return left


def _map(proxy: Proxy, text: str, name: str, file: Path) -> Iterator[Finding]:
    """Compare a map of HAProxy's with the file that it was read from."""
    if f"({name})" not in text:
        return
    (shown,) = proxy.ask(f"show map {name}")
    if shown.startswith("Unknown map"):  # an older Instar started it: the next one reads it
        return
    there = sorted(line.partition(" ")[2] for line in shown.strip().splitlines())
    try:
        kept = proxy.files.read(file)
    except RouterError as error:
        yield _finding(name, "it can be looked at", error.message)
        return
    if kept is None:
        yield _finding(name, "what Instar wrote", "it is not there")
    elif there != sorted(kept.splitlines()):
        yield _finding(name, ", ".join(kept.splitlines()) or "empty", ", ".join(there) or "empty")


def _page(proxy: Proxy, text: str) -> Iterator[Finding]:
    """HAProxy has the page of maintenance in memory, and would not start without the file."""
    if f" file {maintenance.PAGE} " in text and not proxy.files.page.is_file():
        yield _finding(maintenance.PAGE, "what Instar wrote", "it is not there")


def _finding(path: str, expected: str, observed: str) -> Finding:
    return Finding(instance=None, kind="router", path=path, expected=expected, observed=observed)
