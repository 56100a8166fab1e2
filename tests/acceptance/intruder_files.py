"""What somebody with root on the machine does to an instance's files, behind its back: those that it sees, those that
it stands on, and those that say what it is."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import struct
from functools import partial
from pathlib import Path

from intruder import Victim, within
from project import require_its_own

_GET_FLAGS, _SET_FLAGS, _IMMUTABLE = 0x80086601, 0x40086602, 0x10


def swap_resolv_conf(victim: Victim) -> None:
    (victim.folder / "resolv.conf").write_text("nameserver 203.0.113.7\n")


def put_another_hosts_file(victim: Victim) -> None:
    """By a rename: who has the file open, as the instance's mount has, sees the old one."""
    other = victim.folder / "other"
    other.write_bytes((victim.folder / "hosts").read_bytes())
    other.rename(victim.folder / "hosts")


def swap_a_secret(victim: Victim) -> None:
    (victim.folder / "secrets/TOKEN").write_text("another")


def open_a_secret_to_all(victim: Victim) -> None:
    (victim.folder / "secrets/TOKEN").chmod(0o444)


def give_a_secret_away(victim: Victim) -> None:
    os.chown(victim.folder / "secrets/TOKEN", 65_534, 65_534)


def open_the_hosts_file_to_all(victim: Victim) -> None:
    (victim.folder / "hosts").chmod(0o666)


def give_resolv_conf_away(victim: Victim) -> None:
    os.chown(victim.folder / "resolv.conf", 65_534, 65_534)


def take_tmp_s_sticky_bit(victim: Victim) -> None:
    (victim.root / "tmp").chmod(0o777)


def add_a_file_to_dev(victim: Victim) -> None:
    def act() -> None:
        os.setgid(0)
        os.setuid(0)
        Path("/dev/evil").touch()

    within(victim.pid, ["user", "mnt"], act)


def open_a_device_to_nobody(victim: Victim) -> None:
    """It is the machine's own node, where instances have those."""
    device = Path("/dev/tty")
    victim.undo.append(partial(device.chmod, stat.S_IMODE(device.stat().st_mode)))
    within(victim.pid, ["mnt"], lambda: device.chmod(0o600))


def replace_the_log(victim: Victim) -> None:
    log = victim.project.home / f"logs/{victim.name}.log"
    log.rename(log.with_name(f"{log.name}.away"))
    victim.undo.append(log.with_name(f"{log.name}.away").unlink)
    log.write_text("all is well\n")


def remove_the_log(victim: Victim) -> None:
    (victim.project.home / f"logs/{victim.name}.log").unlink()


def edit_what_was_written_down(victim: Victim) -> None:
    """So that it fits what is about to be done."""
    path = victim.folder / "made.json"
    made = json.loads(path.read_text())
    made["limits"] = {}
    path.write_text(json.dumps(made))


def edit_what_is_intended(victim: Victim) -> None:
    path = victim.folder / "instance.json"
    path.write_text(path.read_text().replace('"layers": [', '"layers": [ '))


def forge_the_note_of_a_layer(victim: Victim) -> None:
    """Write to the layer's file, and then note that its bytes were hashed as they are now."""
    image = flip_a_byte_of_a_layer(victim)
    found = image.stat()
    note = victim.project.home / "run/sealed" / image.name
    boot = note.read_text().split()[0]
    words = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    note.write_text(" ".join(map(str, (boot, *words))))


def edit_the_bundle(victim: Victim) -> None:
    path = victim.folder / "config.json"
    made = json.loads(path.read_text())
    made["process"]["noNewPrivileges"] = False
    path.write_text(json.dumps(made))


def edit_runc_s_state(victim: Victim) -> None:
    path = victim.project.home / "run/runc" / victim.name / "state.json"
    path.write_text(path.read_text().replace('"readonlyfs":true', '"readonlyfs":false'))


def remove_what_was_written_down(victim: Victim) -> None:
    (victim.folder / "made.json").unlink()


def forget_its_process(victim: Victim) -> None:
    (victim.folder / "process.json").unlink()


def flip_a_byte_of_a_layer(victim: Victim) -> Path:
    """In the file that is mounted, which the file system refuses until somebody asks it not to."""
    image = max((victim.project.home / "layers").glob("*.erofs"), key=lambda path: path.stat().st_size)
    require_its_own(image)
    descriptor = os.open(image, os.O_RDONLY)
    flags = bytearray(8)
    fcntl.ioctl(descriptor, _GET_FLAGS, flags)
    (word,) = struct.unpack("l", flags)
    fcntl.ioctl(descriptor, _SET_FLAGS, struct.pack("l", word & ~_IMMUTABLE))
    os.close(descriptor)
    with image.open("r+b") as file:
        file.seek(image.stat().st_size - 1)
        (last,) = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([last ^ 1]))
    return image
