"""What running instances on this machine takes, and whether it is here."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from instar import process
from instar.errors import InstarError
from instar.host.filesystems import trees, verity
from instar.host.isolation import seccomp, toolbox
from instar.host.kernel import cgroups, idmap, mounts, namespaces
from instar.host.kernel.namespaces import IdRange, Unsupported
from instar.host.network import firewall
from instar.host.network.netlink import ALONE, Netlink
from instar.host.processes import processes
from instar.model.component import Component

_TRY = "instar-try-"
_VERSION = re.compile(r"\d+\.\d+[\w.+~:-]*")

_RULES = (
    (
        "nf_tables masquerade",
        "translates the addresses of instances",
        "nft_masq nft_chain_nat",
        "table ip t { chain c { type nat hook postrouting priority 100; ip saddr 192.0.2.0/24 masquerade; }; }\n",
    ),
    (
        "nf_tables for bridges",
        "ties an instance to its own address",
        "nf_tables bridge",
        "table bridge t { set s { type ifname . ether_addr . ipv4_addr; }\n"
        "chain c { type filter hook prerouting priority 0; iifname . ether saddr . ip saddr @s accept; }; }\n",
    ),
    (
        "nf_tables fib and reject",
        "keeps instances from what this machine listens on",
        "nft_fib_ipv4 nft_reject_ipv4",
        "table ip t { chain c { type filter hook prerouting priority -110;\n"
        "fib daddr type local meta l4proto tcp reject with tcp reset; }; }\n",
    ),
    (
        "nf_tables connlimit",
        "keeps one instance from filling this machine's table of connections",
        "nft_connlimit nft_limit nft_ct",
        "table ip t { set s { type ipv4_addr; flags dynamic; size 9; }\n"
        "set r { type ipv4_addr; flags dynamic; size 9; }\n"
        "chain c { type filter hook prerouting priority -110; ct state new add @s { ip saddr ct count over 9 } drop;\n"
        "update @r { ip saddr limit rate over 9/second burst 9 packets } drop; }; }\n",
    ),
)


def components() -> tuple[Component, ...]:
    """Look for each component. Starts the programs to ask their versions; changes nothing."""
    return (*_programs(), _seccomp_profile(), _toolbox(), *_features())


def _programs() -> Iterator[Component]:
    for name, purpose, package in (
        ("runc", "starts instances", "runc"),
        ("conmon", "keeps an instance's output and exit status", "conmon"),
        ("catatonit", "is the init of every instance", "catatonit"),
        ("mkfs.erofs", "makes layers mountable", "erofs-utils"),
        ("nft", "translates the addresses of instances", "nftables"),
        ("unshare", "makes user namespaces", "util-linux"),
    ):
        yield Component(name=name, purpose=purpose, found=_version(name), get=f"apt-get install {package}")
    purpose = "has the kernel check every block of a layer as it reads it"
    yield Component(
        name="mkfs.ext4",
        purpose="makes volumes that have a size",
        found=_version("mkfs.ext4"),
        get="apt-get install e2fsprogs",
        required=False,
    )
    yield Component(
        name=verity.PROGRAM,
        purpose=purpose,
        found=_version(verity.PROGRAM),
        get="apt-get install cryptsetup-bin",
        required=False,
    )
    yield Component(
        name="dm-verity",
        purpose=purpose,
        found="in the kernel" if verity.in_kernel() else None,
        get="modprobe dm-verity, where the kernel has it; without it layers are hashed instead",
        required=False,
    )


def _seccomp_profile() -> Component:
    return Component(
        name="seccomp profile",
        purpose="says which system calls instances may make",
        found=str(seccomp.PROFILE) if seccomp.PROFILE.is_file() else None,
        get="apt-get install golang-github-containers-common",
    )


def _toolbox() -> Component:
    found = toolbox.find()
    return Component(
        name="busybox, static",
        purpose="is the shell where an image has none: instar shell --toolbox",
        found=str(found) if found else None,
        get=toolbox.GET,
        required=False,
    )


def _features() -> Iterator[Component]:
    checks: tuple[tuple[str, str, str, Callable[[], str | None]], ...] = (
        ("overlayfs", "puts layers on one another", "overlay", lambda: _file_system("overlay")),
        ("EROFS", "holds a layer that nobody can write to", "erofs", lambda: _file_system("erofs")),
        ("veth and bridge", "join instances to their network", "veth bridge", lambda: _tried(_try_links)),
        *((what, purpose, modules, _tries(rules)) for what, purpose, modules, rules in _RULES),
    )
    for name, purpose, modules, found in checks:
        yield Component(name=name, purpose=purpose, found=found(), get=f"a kernel with it: modprobe -a {modules}")
    if mounts.needs_loop_devices():
        yield Component(
            name="loop devices",
            purpose="mount layers, with a kernel before 6.12",
            found="found" if Path("/dev/loop-control").exists() else None,
            get="modprobe loop",
        )
    layout = cgroups.layout()
    yield Component(
        name="cgroups",
        purpose="limit memory, processors and processes of instances",
        found=None if layout == "none" else layout,
        get="mount -t cgroup2 none /sys/fs/cgroup",
    )
    yield Component(
        name="user namespaces",
        purpose="make the users of an instance nobody outside of it; without them, they run without, and bakes don't",
        found=_tried(_try_users),
        get="Linux 5.19 or newer, and the sysctl user.max_user_namespaces above 0",
        required=False,
    )


def _version(name: str) -> str | None:
    if process.find_program(name) is None:
        return None
    with contextlib.suppress(InstarError):
        ended = process.run([name, "--version"], timeout_s=5, check=False)
        said = _VERSION.search((ended.stdout + ended.stderr).decode(errors="replace"))
        if said:
            return said[0]
    return str(process.find_program(name))


def _file_system(name: str) -> str | None:
    if name in Path("/proc/filesystems").read_text().split():
        return "in the kernel"
    modules = Path("/lib/modules", os.uname().release, "modules.dep")
    with contextlib.suppress(OSError):
        if f"/{name}.ko" in modules.read_text():
            return "a module"
    return None


def _tried(attempt: Callable[[], None]) -> str | None:
    """Try a feature of the kernel in namespaces that end with the attempt."""
    if os.geteuid() != 0:
        return "not tried: that takes root"
    try:
        attempt()
    except (InstarError, OSError, Unsupported):
        return None
    return "tried: works"


def _try_links() -> None:
    def make() -> None:
        with Netlink() as link, Path("/proc/thread-self/ns/net").open("rb") as here:
            link.add_bridge("bridge", b"\x02\0\0\0\0\1")
            bridge, mac = socket.if_nametoindex("bridge"), b"\x02\0\0\0\0\2"
            link.add_veth("outer", master=bridge, mtu=1500, peer="inner", peer_mac=mac, peer_namespace=here.fileno())
            link.set_port("outer", ALONE)
            link.set_behind("outer", mac)

    namespaces.in_new_network(make)


def _tries(rules: str) -> Callable[[], str | None]:
    return lambda: _tried(lambda: namespaces.in_new_network(lambda: firewall.nft(rules)))


def _try_users() -> None:
    import tempfile

    _clear_tries(Path(tempfile.gettempdir()))
    here = processes.identify(os.getpid())
    assert here is not None
    name = f"{_TRY}{here.pid}-{here.start_time}"
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as room:
        folders = [Path(room, folder) for folder in ("one", "two", "shown-one", "shown-two", "root")]
        for folder in folders:
            folder.mkdir()
        try:
            with namespaces.make_user_and_network(name, IdRange.number(0), Path(room, "users")) as users:
                idmap.clone(folders[0], folders[2], users=users)
                idmap.clone(folders[1], folders[3], users=users)
                mounts.mount_overlay(folders[2:4], folders[4])
        finally:
            mounts.unmount_all(Path(room))
            namespaces.drop_network(name)


def _clear_tries(folder: Path) -> None:
    """Remove what tries that were killed have left; whoever tries just now is known by pid and start time."""
    for name in namespaces.names(_TRY):
        if not _is_tried_now(name):
            namespaces.drop_network(name)
    for room in folder.glob(f"{_TRY}*"):
        if not _is_tried_now(room.name):
            mounts.unmount_all(room)
            trees.remove(room)


def _is_tried_now(name: str) -> bool:
    pid, _, rest = name.removeprefix(_TRY).partition("-")
    found = processes.identify(int(pid)) if pid.isascii() and pid.isdigit() and len(pid) < 10 else None
    return found is not None and rest.partition("-")[0] == str(found.start_time)
