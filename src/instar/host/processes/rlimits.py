"""What one process may use of what no control group counts, the same whoever runs the command that makes an instance.

Limits are inherited, so an instance would have those of a shell or a service manager. All are set: to what is wanted,
or, by a root that may raise none (without CAP_SYS_RESOURCE), to the most that its own hard limit allows. An instance's
user namespace is not root's (namespaces.py), so such a root may set nothing in it from outside: it is done from within.
Source: getrlimit(2).
"""

from __future__ import annotations

import contextlib
import functools
import resource
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from instar import process
from instar.errors import CommandFailed, HostError

_ALL: Final = resource.RLIM_INFINITY
_MIB: Final = 1 << 20

# soft and hard, by the kernel's name without RLIMIT_. What users wait for or queue counts per user of a namespace.
WANTED: Final[Mapping[str, tuple[int, int]]] = {
    "AS": (_ALL, _ALL),
    "CORE": (0, 0),
    "CPU": (_ALL, _ALL),
    "DATA": (_ALL, _ALL),
    "FSIZE": (_ALL, _ALL),
    "MEMLOCK": (8 * _MIB, 8 * _MIB),
    "MSGQUEUE": (819_200, 819_200),
    "NICE": (0, 0),
    "NOFILE": (65_536, 1_048_576),
    "NPROC": (_ALL, _ALL),
    "RSS": (_ALL, _ALL),
    "RTPRIO": (0, 0),
    "RTTIME": (_ALL, _ALL),
    "SIGPENDING": (16_384, 16_384),
    "STACK": (8 * _MIB, _ALL),
}
_TIMEOUT_S: Final = 10.0
_MOST_FILES: Final = Path("/proc/sys/fs/nr_open")  # nobody may have more


def of_instance() -> dict[str, tuple[int, int]]:
    """Return soft and hard by name; none is above what this process may set, whatever it has itself."""
    hardest = {name: _hardest(name) for name in WANTED}
    return {name: (_lower(soft, hardest[name]), _lower(hard, hardest[name])) for name, (soft, hard) in WANTED.items()}


def runc_form() -> list[dict[str, int | str]]:
    """Return them as config.json has them. Source: runtime-spec 1.0.2, config.md, rlimits."""
    unsigned = (1 << 64) - 1  # of "all"
    return [
        {"type": f"RLIMIT_{name}", "soft": soft & unsigned, "hard": hard & unsigned}
        for name, (soft, hard) in of_instance().items()
    ]


def limited(argv: Sequence[str], made: Mapping[str, int], *, by_runc: bool) -> list[str]:
    """Return ``argv``, a command of runc's, as one that has an instance's limits, and all that it starts.

    ``made``: the hard limits of its first process, which none is above; those that nobody wrote down are missing.
    ``by_runc``: it sets those of open files itself. Else it would raise the soft limit to the hard one.
    """
    return ["prlimit", *_options(made, files_hard=by_runc), *argv]


def set_inside(pid: int, users: Path) -> None:
    """Give the process ``pid``, which is in the user namespace at ``users``, an instance's limits. Raises HostError."""
    with contextlib.suppress(PermissionError):
        for name, limits in of_instance().items():
            resource.prlimit(pid, getattr(resource, f"RLIMIT_{name}"), limits)
        return
    command = ["nsenter", f"--user={users}", "prlimit", f"--pid={pid}", *_options({}, files_hard=True)]
    try:
        process.run(command, timeout_s=_TIMEOUT_S)
    except CommandFailed as error:
        raise HostError(f"cannot limit process {pid}: {error.output.strip() or error.message}") from error


def _hardest(name: str) -> int:
    """Return the most that this process may give to another, or to its child."""
    own = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1]
    if own == _ALL or own >= WANTED[name][1] != _ALL or not _may_raise():
        return own
    return int(_MOST_FILES.read_text()) if name == "NOFILE" else _ALL


@functools.cache
def _may_raise() -> bool:
    """Tell whether this process may raise hard limits, which only the kernel knows: a child tries it."""
    lower, raise_again = ["prlimit", "--core=0:0"], ["prlimit", "--core=0:1", "true"]
    return process.run([*lower, *raise_again], timeout_s=_TIMEOUT_S, check=False).returncode == 0


def _options(made: Mapping[str, int], *, files_hard: bool) -> Iterator[str]:
    for name, limits in of_instance().items():
        soft, hard = (_lower(one, made.get(name, _ALL)) for one in limits)
        most = soft if name == "NOFILE" and not files_hard else hard
        yield f"--{name.lower()}={_word(soft)}:{_word(most)}"


def _word(value: int) -> str:
    return "unlimited" if value == _ALL else str(value)


def _lower(wanted: int, hardest: int) -> int:
    if hardest == _ALL:
        return wanted
    return hardest if wanted == _ALL else min(wanted, hardest)
