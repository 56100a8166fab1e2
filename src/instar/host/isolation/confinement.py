"""What no process in a sandbox or an instance may see, change or ask the kernel for: one list for both.

Source: runtime-spec 1.0.2, config-linux.md, Masked Paths, Readonly Paths and Seccomp; linux/sched.h for the flags.
"""

from __future__ import annotations

MASKED = (
    *(f"/proc/{name}" for name in ("acpi", "asound", "kcore", "keys", "latency_stats", "sched_debug", "scsi")),
    *(f"/proc/{name}" for name in ("timer_list", "timer_stats", "interrupts", "kmsg")),
    *(f"/sys/{name}" for name in ("firmware", "fs/selinux", "devices/virtual/powercap", "dev/block")),
)
READ_ONLY = tuple(f"/proc/{name}" for name in ("bus", "fs", "irq", "pressure", "sys", "sysrq-trigger"))

EPERM, ENOSYS = 1, 38

# fmt: off
REFUSED = frozenset({
    # mounts, the old interface and the new
    "mount", "umount", "umount2", "pivot_root", "mount_setattr", "move_mount", "open_tree",
    "fsopen", "fsconfig", "fsmount", "fspick",
    # namespaces
    "unshare", "setns",
    # the kernel's key rings: namespaces don't keep them apart
    "keyctl", "add_key", "request_key",
    # large interfaces that one can do without
    "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register",
    # a file handle leads out of a mount
    "open_by_handle_at",
    # the whole machine
    "reboot", "swapon", "swapoff", "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module",
    "acct", "quotactl", "syslog", "vhangup",
})
# fmt: on

# glibc falls back to clone, whose flags a filter can see, when clone3 does not exist
MISSING = "clone3"
NAMESPACE_BITS = (17, 25, 26, 27, 28, 29, 30)  # CLONE_NEWNS, -CGROUP, -UTS, -IPC, -USER, -PID, -NET


def clone_flags_index(machine: str) -> int:
    """Return which argument of clone has its flags: the first, on s390x the second."""
    return 1 if machine == "s390x" else 0
