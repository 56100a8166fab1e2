"""A sandbox: one command in runc, on a root of its own, that reaches nothing else and ends when it is told to.

In it there is no network but an empty loopback, no process but its own, no clock or file of this machine; the host
name, environment, umask and identity are fixed, so that what a command does depends on its root alone. It runs as root
with what maintainer scripts need and no more: to own and change files of others, to become others, to kill, to chroot;
no mounts, no namespaces, no device nodes, no new privileges, no sockets of families that leave a network namespace.

It is root of a user namespace alone, unless it is to be ``on_the_machine``: what it may do it may do to what is in it.
A machine that makes none runs no such sandbox: one that was without would be another world.
Every id of that namespace stands for itself, so that files belong to whom they belong to, whatever file system they
are on; and the system calls are those on the distribution's list, as in an instance.

Everything of a sandbox is named after it: the cgroup ``instar-sandbox-NAME`` and the container in ``folder/runc``.
Killed half way, :func:`clear` ends what runs on; the mounts are the caller's.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from instar import process
from instar.errors import CommandFailed, HostError
from instar.frozen import dataclass
from instar.host.isolation import confinement, seccomp, sockets
from instar.host.kernel import cgroups
from instar.host.processes import output

HOST_NAME = "instar-bake"

# What lies beneath every root: mount points, so that runc makes none of its own, a name for the loopback address,
# and the word that no maintainer script may start a service.
PLATE: Mapping[str, str | None] = {
    "dev": None,
    "proc": None,
    "tmp": None,
    "etc/hosts": f"127.0.0.1 localhost {HOST_NAME}\n::1 localhost\n",
    "usr/sbin/policy-rc.d": "#!/bin/sh\nexit 101\n",
}

_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETFCAP", "SETGID", "SETUID", "SYS_CHROOT")
_OPEN_FILES = 65_536
_TERMINALS = 64  # pseudo-terminals, of which the machine has some thousands
_TRY_TIMEOUT_S = 20.0
_EVERY_ID = [{"containerID": 0, "hostID": 0, "size": (1 << 32) - 1}]
_NEARLY_FULL_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class SandboxLimits:
    """When a command is stopped. ``tmp_bytes`` of /tmp count as memory too."""

    timeout_s: float
    memory_bytes: int
    tmp_bytes: int
    pids: int = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a command ended. ``failure`` says it for people, and is empty when it succeeded; ``output`` is the tail."""

    returncode: int | None
    output: str
    failure: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sandbox:
    """Runs commands on ``root``, one at a time. ``folder`` is private to it; ``name`` is unique on this machine.

    ``workdir`` is where they start; ``user`` who runs them: none but root has rights besides.
    ``network`` is a namespace that it is in, None: one of its own, empty.
    ``on_the_machine``: in the machine's own user namespace, with all system calls that cannot widen the sandbox.
    """

    name: str
    root: Path
    folder: Path
    on_the_machine: bool = False
    workdir: str = "/"
    user: tuple[int, int] = (0, 0)
    network: Path | None = None

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        limits: SandboxLimits,
        shown: Mapping[str, Path] | None = None,
        on_line: Callable[[str], None] = lambda line: None,
        whole: output.WholeOutput | None = None,
    ) -> Outcome:
        """Run ``argv`` to its end; nothing of it lives when this returns.

        ``shown`` are directories of this machine that it may read: where → which. ``on_line`` is called from another
        thread with each line of its output; lines to stdout and stderr can overtake each other. ``whole`` gets
        all of it.

        Raises HostError when it could not be started at all.
        """
        bundle = self.folder / "bundle"
        bundle.mkdir(parents=True, exist_ok=True)
        configuration = _configuration(self, argv, env, limits, shown or {})
        (bundle / "config.json").write_text(json.dumps(configuration))
        try:
            with output.captured(on_line, whole) as (descriptor, tail):
                returncode = _run(self._command(bundle), descriptor, limits.timeout_s)
                killed = cgroups.out_of_memory_kills(cgroup_of(self.name))
                cgroups.kill(cgroup_of(self.name))
        finally:
            clear(self.name, self.folder)
        printed = tail.text()
        failure = "" if returncode == 0 else self._failure(returncode, killed, printed, limits)
        return Outcome(returncode=returncode, output=printed, failure=failure)

    def _command(self, bundle: Path) -> list[str | Path]:
        return ["runc", "--root", self.folder / "runc", "run", "--keep", "--bundle", bundle, self.name]

    def _failure(self, returncode: int | None, killed: int, output: str, limits: SandboxLimits) -> str:
        if returncode is None:
            return f"no end after {limits.timeout_s:g} s"
        if killed:
            return f"out of memory: it may use {limits.memory_bytes >> 20} MiB"
        if _is_full(self.root):
            return "the disk is full"
        if "No space left on device" in output:
            return f"no space left on the disk or in /tmp, which holds {limits.tmp_bytes >> 20} MiB"
        return f"exit status {returncode}"


def make_plate(folder: Path) -> None:
    """Make the tree that lies beneath every root in ``folder``, which is empty or missing."""
    for name, text in PLATE.items():
        path = folder / name
        (path.parent if text else path).mkdir(parents=True, exist_ok=True)
        if text is not None:
            path.write_text(text)
            path.chmod(0o755 if text.startswith("#!") else 0o644)
    for directory, _, _ in os.walk(folder):
        Path(directory).chmod(0o755)
    (folder / "tmp").chmod(0o1777)


def clear(name: str, folder: Path) -> None:
    """End whatever runs in the sandbox ``name`` and remove what runc knows of it. Raises HostError."""
    cgroups.kill(cgroup_of(name))
    cgroups.remove(cgroup_of(name))
    shutil.rmtree(folder / "runc", ignore_errors=True)


def _run(command: Sequence[str | Path], descriptor: int, timeout_s: float) -> int | None:
    try:
        return process.run(
            command, stdout=descriptor, stderr=descriptor, timeout_s=timeout_s, check=False, alone=True
        ).returncode
    except CommandFailed as error:
        if error.timed_out:
            return None
        raise HostError(f"cannot run a sandbox: {error.message}", hint="see instar doctor") from error


def cgroup_of(name: str) -> str:
    """Return the cgroup of what runs in the sandbox ``name``."""
    return f"instar-sandbox-{name}"


def _is_full(root: Path) -> bool:
    status = os.statvfs(root)
    return status.f_bfree * status.f_frsize < _NEARLY_FULL_BYTES or (status.f_files > 0 and status.f_ffree == 0)


def _configuration(
    sandbox: Sandbox, argv: Sequence[str], env: Mapping[str, str], limits: SandboxLimits, shown: Mapping[str, Path]
) -> dict[str, Any]:
    """Return runc's own file. Source: runtime-spec 1.0.2, config.md and config-linux.md."""
    kinds = ["pid", "network", "ipc", "uts", "mount"]
    own = not sandbox.on_the_machine and makes_user_namespaces()
    return {
        "ociVersion": "1.0.2",
        "hostname": HOST_NAME,
        "root": {"path": str(sandbox.root), "readonly": False},
        "process": _process(argv, env, sandbox),
        "mounts": _mounts(limits, shown),
        "linux": {
            "cgroupsPath": "/" + cgroup_of(sandbox.name),
            "namespaces": [
                {"type": kind, **({"path": str(sandbox.network)} if kind == "network" and sandbox.network else {})}
                for kind in (*kinds, *(["user"] if own else []))
            ],
            **({"uidMappings": _EVERY_ID, "gidMappings": _EVERY_ID} if own else {}),
            "resources": {
                "devices": [{"allow": False, "access": "rwm"}],
                "memory": {"limit": limits.memory_bytes},
                "pids": {"limit": limits.pids},
            },
            "maskedPaths": list(confinement.MASKED),
            "readonlyPaths": list(confinement.READ_ONLY),
            "seccomp": _seccomp_on_the_machine() if sandbox.on_the_machine else seccomp.profile(_capabilities()),
        },
    }


def _process(argv: Sequence[str], env: Mapping[str, str], sandbox: Sandbox) -> dict[str, Any]:
    names = _capabilities() if sandbox.user[0] == 0 else []
    files = min(_OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    return {
        "terminal": False,
        "user": {"uid": sandbox.user[0], "gid": sandbox.user[1], "umask": 0o022},
        "args": list(argv),
        "env": [f"{name}={value}" for name, value in sorted({"HOME": "/root", **env}.items())],
        "cwd": sandbox.workdir,
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), names),
        "rlimits": [
            {"type": "RLIMIT_NOFILE", "hard": files, "soft": min(1024, files)},
            {"type": "RLIMIT_CORE", "hard": 0, "soft": 0},
        ],
        "noNewPrivileges": True,
        "oomScoreAdj": 500,
    }


def _capabilities() -> list[str]:
    return [f"CAP_{name}" for name in _CAPABILITIES]


@functools.cache
def makes_user_namespaces() -> bool:
    """Tell whether user namespaces can be made here: a machine may allow none, and none is made in a chroot."""
    return process.run(["unshare", "--user", "true"], timeout_s=_TRY_TIMEOUT_S, check=False).returncode == 0


def _mounts(limits: SandboxLimits, shown: Mapping[str, Path]) -> list[dict[str, Any]]:
    plain = ("nosuid", "nodev")
    terminals = ("newinstance", "ptmxmode=0666", "mode=0620", "gid=5", f"max={_TERMINALS}")
    return [
        _mount("/proc", "proc", *plain, "noexec"),
        _mount("/dev", "tmpfs", "nosuid", "mode=755", "size=64k"),
        _mount("/dev/pts", "devpts", "nosuid", "noexec", *terminals),
        _mount("/dev/shm", "tmpfs", *plain, "mode=1777", "size=64m"),  # noqa: S108  the sandbox's own
        _mount("/tmp", "tmpfs", *plain, "mode=1777", f"size={limits.tmp_bytes}"),  # noqa: S108
        *(_mount(point, "bind", *plain, "bind", "ro", source=str(path)) for point, path in shown.items()),
    ]


def _mount(point: str, kind: str, *options: str, source: str | None = None) -> dict[str, Any]:
    return {"destination": point, "type": kind, "source": source or kind, "options": options}


def _seccomp_on_the_machine() -> dict[str, Any]:
    """Refuse what could widen the sandbox and nothing else: a build may use the kernel in any other way."""
    index, flags = confinement.clone_flags_index(os.uname().machine), [1 << bit for bit in confinement.NAMESPACE_BITS]
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            _rule(sorted(confinement.REFUSED), confinement.EPERM),
            _rule([confinement.MISSING], confinement.ENOSYS),
            *(_rule(["clone"], confinement.EPERM, [_has_flag(index, flag)]) for flag in flags),
            *sockets.rules(()),
        ],
    }


def _has_flag(index: int, flag: int) -> Mapping[str, Any]:
    return {"index": index, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ"}


def _rule(names: Sequence[str], errno: int, args: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    return {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno, "args": args}
