"""The seccomp filter of instances and sandboxes: the distribution's default profile, tightened, for this machine's
architecture.

The default profile allows mount, unshare, setns and their kin, because a user namespace would make them harmless; an
instance has no use for them, so they are taken out. One architecture makes a filter that loads in a third of the time.

It also allows sockets of every family, of which some know no namespace (AF_VSOCK reaches the hypervisor from
everywhere) and others open large parts of the kernel to anybody (AF_ALG, AF_TIPC, AF_RDS, AF_CAN …): only those of
``sockets.py`` are allowed.
Source: runtime-spec 1.0.2, config-linux.md, Seccomp; the profile is that of golang-github-containers-common.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from instar.errors import ComponentMissing, HostError
from instar.host.isolation import confinement, sockets
from instar.host.isolation.confinement import ENOSYS, EPERM, MISSING

PROFILE = Path("/usr/share/containers/seccomp.json")

# machine (uname -m) → (libseccomp's name, the profile's name)
_ARCHITECTURES = {
    "x86_64": ("SCMP_ARCH_X86_64", "amd64"),
    "aarch64": ("SCMP_ARCH_AARCH64", "arm64"),
    "armv7l": ("SCMP_ARCH_ARM", "arm"),
    "ppc64le": ("SCMP_ARCH_PPC64LE", "ppc64le"),
    "s390x": ("SCMP_ARCH_S390X", "s390x"),
    "riscv64": ("SCMP_ARCH_RISCV64", "riscv64"),
}

# beyond those of every sandbox: other processes' memory and descriptors, and half of what handles need
_OF_INSTANCES = {"ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd"}
_OF_INSTANCES |= {"name_to_handle_at"}
REFUSED = confinement.REFUSED | _OF_INSTANCES
_NAMESPACE_FLAGS = sum(1 << bit for bit in confinement.NAMESPACE_BITS)


def profile(capabilities: Collection[str] = ()) -> dict[str, Any]:
    """Return the filter in runc's form for processes with ``capabilities`` (CAP_…). Raises ComponentMissing."""
    name, rules_for = _architecture()
    source = _source()
    taken = REFUSED | sockets.calls(os.uname().machine, capabilities) | {"clone", MISSING}
    rules = [_translate(rule, taken) for rule in source["syscalls"] if _applies(rule, rules_for, capabilities)]
    return {
        "defaultAction": source["defaultAction"],
        "defaultErrnoRet": source.get("defaultErrnoRet", ENOSYS),
        "architectures": [name],
        "syscalls": [*(rule for rule in rules if rule["names"]), *_own_rules(), *sockets.rules(capabilities)],
    }


@functools.cache
def _source() -> Mapping[str, Any]:
    try:
        data: Mapping[str, Any] = json.loads(PROFILE.read_bytes())
    except FileNotFoundError as error:
        raise ComponentMissing(
            f"cannot read '{PROFILE}': it is not installed", hint="apt-get install golang-github-containers-common"
        ) from error
    except ValueError as error:
        raise HostError(f"cannot read '{PROFILE}': it is not JSON: {error}") from error
    return data


def _architecture() -> tuple[str, str]:
    machine = os.uname().machine
    try:
        return _ARCHITECTURES[machine]
    except KeyError:
        raise HostError(f"cannot make a seccomp filter for '{machine}': this architecture is not known") from None


def _applies(rule: Mapping[str, Any], architecture: str, capabilities: Collection[str]) -> bool:
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    wanted_arches, wanted_caps = includes.get("arches"), includes.get("caps")
    if wanted_arches and architecture not in wanted_arches:
        return False
    if wanted_caps and not set(wanted_caps) <= set(capabilities):
        return False
    unwanted = set(excludes.get("arches") or ()) | set(excludes.get("caps") or ())
    return not unwanted & {architecture, *capabilities}


def _translate(rule: Mapping[str, Any], taken: Collection[str]) -> dict[str, Any]:
    translated: dict[str, Any] = {
        "names": [name for name in rule["names"] if name not in taken],
        "action": rule["action"],
    }
    if rule.get("args"):
        translated["args"] = rule["args"]
    if rule["action"] == "SCMP_ACT_ERRNO":
        translated["errnoRet"] = rule.get("errnoRet", EPERM)
    return translated


def _own_rules() -> Iterator[dict[str, Any]]:
    yield {"names": sorted(REFUSED), "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM}
    yield {"names": [MISSING], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS}
    index = confinement.clone_flags_index(os.uname().machine)
    flags = {"index": index, "value": _NAMESPACE_FLAGS, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    yield {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [flags]}
