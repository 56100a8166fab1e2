"""What of Instar is on this machine now, outside of its files: mounts, loop devices and what stands on those,
namespaces, links, cgroups, tables and processes.

    scripts/leftovers.py [MARK…]    print all of it, or what carries one of the marks

A mark is a state directory's path, the six digits in its ``id`` file, which all that is global to the host carries, or
the name of a cluster (scripts/cluster). A node of a cluster is one thing: its processes, pods and mounts come and go
inside of it, and are gone when it is.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PROGRAMS = {"haproxy", "conmon", "runc", "catatonit", "apt-get", "dpkg", "mkfs.erofs", "dockerd", "containerd"}
GRACE_S = 5.0


def present() -> set[str]:
    """Return one line for each thing, the same line as long as it is there."""
    return {*mounts(), *loop_devices(), *namespaces(), *links(), *cgroups(), *tables(), *processes()}


def traces(*marks: str) -> list[str]:
    """Return what is there now and carries one of ``marks``."""
    return sorted(line for line in present() if any(mark in line for mark in marks))


def remaining(find: Callable[[], list[str]]) -> list[str]:
    """Return what ``find`` still finds after the grace: what is just ending gets a few seconds to end."""
    deadline = time.monotonic() + GRACE_S
    while (found := find()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def remove_state(home: Path) -> None:
    """Remove a state directory that nothing runs from; its layers may be mounted, and are immutable."""
    for point in sorted((home / "run/mounts").glob("*")):
        if point.is_mount():
            subprocess.run(["umount", point], check=True)
    if (home / "layers").is_dir():
        subprocess.run(["chattr", "-R", "-f", "-i", home / "layers"], check=False, capture_output=True)
    shutil.rmtree(home)


def mounts() -> Iterator[str]:
    """Mounts, without /run/netns: whoever keeps the first network namespace makes it one, as ``ip netns`` does, and
    everybody shares it from then on."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        front, back = line.split(" - ", 1)
        if front.split()[4] == "/run/netns":
            continue
        yield f"mount {front.split()[4]} ({back.split()[0]})"


def loop_devices() -> Iterator[str]:
    for file in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            device = file.parent.parent
            above = "".join(f" below {holder.name}" for holder in (device / "holders").glob("dm-*"))
            yield f"loop device {device.name} of {file.read_text().strip()}{above}"


def namespaces() -> Iterator[str]:
    folder = Path("/run/netns")
    yield from (f"network namespace {entry.name}" for entry in (folder.iterdir() if folder.is_dir() else ()))


def links() -> Iterator[str]:
    yield from (f"link {entry.name}" for entry in Path("/sys/class/net").iterdir())


def cgroups() -> Iterator[str]:
    for folder, below, _ in os.walk("/sys/fs/cgroup"):
        is_node = "parts" in below
        if is_node:
            below.clear()
        if is_node or "instar" in folder:
            yield f"cgroup {folder}"


def nodes() -> set[str]:
    """Return the cgroups of clusters' nodes, as processes name them."""
    root = Path("/sys/fs/cgroup")
    return {f"/{folder.parent.name}" for depth in ("*", "*/*") for folder in root.glob(f"{depth}/parts")}


def tables() -> Iterator[str]:
    """Tables of the firewall; only root may see them."""
    if os.geteuid() == 0:
        with contextlib.suppress(FileNotFoundError):
            listed = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False)
            yield from listed.stdout.splitlines()


def processes() -> Iterator[str]:
    """Processes of Instar and of the programs that it starts, without this one and its ancestors."""
    own, boxes = set(ancestors()), nodes()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            is_ours = Path(words[0]).name in PROGRAMS or any("instar" in word for word in words)
            is_other = int(folder.name) in own or state(folder) == "Z" or node_of(folder) in boxes
            if is_ours and not is_other:
                yield f"process {folder.name}: {' '.join(words).strip()[:300]}"


def node_of(folder: Path) -> str:
    """Return the first part of a process's cgroup in the last hierarchy, which is that of a node if it is in one."""
    last = (folder / "cgroup").read_text().splitlines()[-1].partition("::")[2] or "/"
    return "/" + last.split("/")[1]


def state(folder: Path) -> str:
    return (folder / "stat").read_text().rpartition(")")[2].split()[0]


def ancestors() -> Iterator[int]:
    pid = os.getpid()
    while pid > 0:
        yield pid
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


if __name__ == "__main__":
    print("\n".join(traces(*sys.argv[1:]) if sys.argv[1:] else sorted(present())))
