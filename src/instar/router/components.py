"""What routing needs of the machine, for ``instar doctor``."""

from __future__ import annotations

import pwd
import re
from pathlib import Path

from instar import process
from instar.errors import CommandFailed
from instar.model.component import Component

_YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")
_NO_TRACING = "3"


def components() -> tuple[Component, ...]:
    said = _about_haproxy()
    return (
        Component(
            name="haproxy",
            purpose="routes requests to instances",
            found=_version(said),
            get="apt-get install haproxy",
        ),
        Component(
            name="haproxy with Lua",
            purpose="lets requests wait while there is no instance (timeouts.wait)",
            found="found" if said is not None and " +LUA " in said else None,
            get="comes with Debian's package haproxy",
            required=False,
        ),
        Component(
            name="haproxy with TLS",
            purpose="ends https at the machine's edge (names of https)",
            found="found" if said is not None and " +OPENSSL " in said else None,
            get="comes with Debian's package haproxy",
            required=False,
        ),
        Component(
            name="user haproxy",
            purpose="what HAProxy runs as once it has started, instead of root",
            found="found" if confinement_possible() else None,
            get="comes with Debian's package haproxy",
            required=False,
        ),
        Component(
            name="pidfd_getfd",
            purpose="lets a router be changed or its holder be replaced without losing a request",
            found="found" if _tracing_possible() else None,
            get="sysctl kernel.yama.ptrace_scope=1 (after 3 only a reboot helps)",
        ),
    )


def confinement_possible() -> bool:
    """Tell whether the user and the empty directory that Debian gives HAProxy are there."""
    return haproxy_user() is not None and Path("/var/lib/haproxy").is_dir()


def haproxy_user() -> int | None:
    """Return the number of the user that Debian gives HAProxy, None where there is none."""
    try:
        return pwd.getpwnam("haproxy").pw_uid
    except KeyError:
        return None


def haproxy_owner() -> tuple[int, int]:
    """Return user and group of an HAProxy that has started: root's where Debian's own are not there."""
    try:
        found = pwd.getpwnam("haproxy") if confinement_possible() else None
    except KeyError:
        found = None
    return (found.pw_uid, found.pw_gid) if found else (0, 0)


def _about_haproxy() -> str | None:
    """Return what HAProxy says of itself, None where there is none."""
    program = process.find_program("haproxy")
    if program is None:
        return None
    try:
        return process.run([program, "-vv"], timeout_s=10).stdout.decode("utf-8", "replace")
    except CommandFailed:
        return None


def _version(said: str | None) -> str | None:
    match = re.search(r"version (\S+)", said) if said is not None else None
    return match[1] if match else said and "found"


def _tracing_possible() -> bool:
    try:
        return _YAMA.read_text().strip() != _NO_TRACING
    except OSError:
        return True
