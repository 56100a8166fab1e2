"""The disk of a stock Debian 12 machine, made from the archives that this machine itself uses.

The system (kernel, systemd, and what scripts/setup would install) is made once and kept in ``CACHE``, under a name that
changes with whatever it is made from. A test gets a copy of it, and a second disk with the checkout, the wheels of its
requirements, and the packages that the demo's image is baked from: the machine needs no network.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from leftovers import remove_state

SUITE = "bookworm"
CACHE = Path("/var/cache/instar-machine")
ROOT = Path(__file__).resolve().parents[2]
_DISK_BYTES = 8 << 30
_SYSTEM = ("linux-image-amd64", "systemd-sysv", "dbus", "udev", "python3", "git", "curl", "procps", "sqlite3")
_UNIT = """[Unit]
Description=Does what the test asks over a virtio-serial port
Requires=dev-virtio\\x2dports-instar\\x2dtest.device
After=dev-virtio\\x2dports-instar\\x2dtest.device

[Service]
ExecStart=/usr/bin/python3 -IB /usr/local/lib/instar-test/channel.py
Restart=always
KillMode=process

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """``disk`` is written to; ``supplies`` is a tar archive that the machine sees as its second disk.

    ``demo_digest`` is what baking the demo's first image must give, wherever that is done.
    """

    kernel: Path
    initrd: Path
    disk: Path
    supplies: Path
    demo_digest: str


def make(room: Path) -> Image:
    """Return a new disk in ``room``; the first time this takes minutes."""
    system = _system()
    disk = room / "disk"
    subprocess.run(["cp", "--sparse=always", system / "disk", disk], check=True)
    supplies = room / "supplies.tar"
    digest = _pack_supplies(room, supplies)
    return Image(
        kernel=system / "vmlinuz", initrd=system / "initrd.img", disk=disk, supplies=supplies, demo_digest=digest
    )


def _system() -> Path:
    packages = [*_SYSTEM, *_packages_of_setup()]
    sources = _sources()
    parts = [*packages, *sources, _UNIT, Path(__file__).read_text(), _channel().read_text()]
    made = CACHE / hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    if not made.exists():
        shutil.rmtree(CACHE, ignore_errors=True)
        draft = CACHE / "making"
        draft.mkdir(parents=True)
        _make_system(draft, packages, sources)
        draft.rename(made)
    return made


def _make_system(draft: Path, packages: list[str], sources: list[str]) -> None:
    tree = draft / "tree"
    words = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(packages)}"]
    subprocess.run([*words, SUITE, tree, *sources], check=True)
    _equip(tree)
    for name in ("vmlinuz", "initrd.img"):
        shutil.copyfile(tree / (tree / name).readlink(), draft / name)
    disk = draft / "disk"
    disk.touch()
    os.truncate(disk, _DISK_BYTES)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", tree, disk], check=True)
    shutil.rmtree(tree)


def _equip(tree: Path) -> None:
    """Give the machine a name, its disk, and the channel."""
    (tree / "etc/hostname").write_text("machine\n")
    (tree / "etc/hosts").write_text("127.0.0.1 localhost machine\n")
    (tree / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 1\n")
    (tree / "etc/machine-id").write_text("uninitialized\n")
    program = tree / "usr/local/lib/instar-test/channel.py"
    program.parent.mkdir(parents=True)
    shutil.copyfile(_channel(), program)
    units = tree / "etc/systemd/system"
    (units / "instar-test.service").write_text(_UNIT)
    subprocess.run(["chroot", tree, "systemctl", "--quiet", "enable", "instar-test"], check=True)
    # scripts/setup switches this one off where it installs it; and no network is waited for
    subprocess.run(["chroot", tree, "systemctl", "--quiet", "disable", "haproxy", "systemd-networkd"], check=True)


def _channel() -> Path:
    return ROOT / "tests/machine/channel.py"


def _packages_of_setup() -> list[str]:
    """Return what scripts/setup installs, as bash understands it."""
    script = 'eval "$(sed -n "/^PACKAGES=(/,/)$/p" scripts/setup)"; printf "%s\\n" "${PACKAGES[@]}"'
    listed = subprocess.run(["bash", "-c", script], cwd=ROOT, check=True, capture_output=True, text=True)
    return listed.stdout.split()


def _sources() -> list[str]:
    """Return the lines of this machine's own apt sources for the suite; none when it has only others."""
    form = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"
    argv = ["apt-get", "indextargets", "--format", form, "Created-By: Packages", "Origin: Debian"]
    listed = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
    return sorted(line for line in listed if line.split()[2].startswith(SUITE))


def _pack_supplies(room: Path, archive: Path) -> str:
    """Pack what the machine works with; return the digest of the demo's image as baked here."""
    supplies = room / "supplies"
    _copy_checkout(supplies / "instar")
    argv = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--require-hashes",
        "--no-deps",
        "--only-binary",
        ":all:",
    ]
    argv += ["--python-version", "3.11", "-r", str(ROOT / "requirements.txt"), "--dest", str(supplies / "wheels")]
    subprocess.run(argv, check=True)
    digest = _bake(supplies / "instar/examples/guestbook", room / "home")
    shutil.copytree(room / "home/cache", supplies / "cache")
    subprocess.run(["tar", "-C", supplies, "-cf", archive, "."], check=True)
    remove_state(room / "home")
    shutil.rmtree(supplies)
    return digest


def _copy_checkout(target: Path) -> None:
    """Copy what is, or would be, committed."""
    target.mkdir(parents=True)
    argv = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    names = "".join(f"{name}\0" for name in listed.split("\0") if name and (ROOT / name).exists())
    packed = subprocess.run(
        ["tar", "-C", ROOT, "--null", "-T", "-", "-c"], input=names.encode(), check=True, stdout=subprocess.PIPE
    )
    subprocess.run(["tar", "-C", target, "-x"], input=packed.stdout, check=True)


def _bake(project: Path, home: Path) -> str:
    """Bake as the example was locked, or with a new lock where an archive has dropped a version since."""
    home.mkdir(mode=0o700)
    if _instar(project, home, "bake").returncode != 0:
        _instar(project, home, "lock", "--update").check_returncode()
    baked = _instar(project, home, "bake", "--json")
    baked.check_returncode()
    digest: str = json.loads(baked.stdout)["digest"]
    return digest


def _instar(project: Path, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = ROOT / ".venv/bin/instar"
    environment = {**os.environ, "INSTAR_HOME": str(home)}
    return subprocess.run(
        [command, *words], cwd=project, env=environment, check=False, stdout=subprocess.PIPE, text=True
    )
