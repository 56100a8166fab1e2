"""A machine under QEMU's software emulation: booted from a disk, told what to do, and cut from its power."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from image import Image

BOOT_S = 600.0
_OFF_S = 240.0


class MachineFailed(AssertionError):
    """The machine did not do what it was told; the text has the end of what it printed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    returncode: int
    output: str


class Machine:
    """One boot of one disk. ``console`` is what the kernel and systemd print."""

    def __init__(self, image: Image, room: Path) -> None:
        self._image = image
        self._socket = room / "channel"
        self._number = 0
        self._text = b""
        self.console = room / "console"

    def boot(self) -> float:
        """Start the machine; return how many seconds it took until it took orders."""
        began = time.monotonic()
        self._socket.unlink(missing_ok=True)
        with self.console.open("ab") as console:
            self._qemu = subprocess.Popen(
                _command(self._image, self._socket), stdin=subprocess.DEVNULL, stdout=console, stderr=console
            )
        self._channel = self._connected(began + BOOT_S)
        self._read_answer(0, began + BOOT_S)
        return time.monotonic() - began

    def try_run(self, script: str, *, timeout_s: float = 120) -> Ended:
        """Run a bash script as root. Raises MachineFailed when it does not end in time."""
        self._number += 1
        order = {"number": self._number, "script": script, "timeout_s": timeout_s}
        self._channel.sendall(json.dumps(order).encode() + b"\n")
        answer = self._read_answer(self._number, time.monotonic() + timeout_s + 60)
        if answer["returncode"] is None:
            raise MachineFailed(f"no end after {timeout_s:g} s: {script}\n{answer['output']}")
        return Ended(returncode=answer["returncode"], output=answer["output"])

    def run(self, script: str, *, timeout_s: float = 120) -> str:
        """Run a script that must end well; return what it printed."""
        ended = self.try_run(script, timeout_s=timeout_s)
        if ended.returncode != 0:
            raise MachineFailed(f"exit status {ended.returncode}: {script}\n{ended.output}")
        return ended.output

    def cut_power(self) -> None:
        """End the machine at once: what it had not written to its disk is lost."""
        self._qemu.kill()
        self._qemu.wait()
        self._channel.close()
        self._text = b""

    def shut_down(self) -> None:
        """Switch the machine off as its owner would; cut its power when that takes too long."""
        with contextlib.suppress(MachineFailed, OSError):
            self.try_run("systemctl --no-block poweroff", timeout_s=30)
            self._qemu.wait(_OFF_S)
        self.cut_power()

    def _connected(self, deadline: float) -> socket.socket:
        while True:
            channel = socket.socket(socket.AF_UNIX)
            try:
                channel.connect(str(self._socket))
                return channel
            except OSError:
                channel.close()
                if self._qemu.poll() is not None or time.monotonic() > deadline:
                    raise MachineFailed(f"QEMU did not start:\n{self._last_words()}") from None
                time.sleep(0.05)

    def _read_answer(self, number: int, deadline: float) -> dict[str, Any]:
        while True:
            line, found, rest = self._text.partition(b"\n")
            if found:
                self._text = rest
                answer: dict[str, Any] = json.loads(line)
                if answer["number"] == number:
                    return answer
                continue
            self._channel.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                chunk = self._channel.recv(65536)
            except TimeoutError:
                chunk = b""
            if not chunk:
                raise MachineFailed(f"the machine does not answer; its console:\n{self._last_words()}")
            self._text += chunk

    def _last_words(self) -> str:
        return self.console.read_text(errors="replace")[-4000:]


@contextlib.contextmanager
def machine(image: Image) -> Iterator[Machine]:
    """Yield a machine that is off; in the end it is off again, however that came about."""
    with tempfile.TemporaryDirectory(prefix="instar-machine-") as room:
        made = Machine(image, Path(room))
        try:
            yield made
        finally:
            if hasattr(made, "_qemu"):
                made.cut_power()


def _command(image: Image, channel: Path) -> list[str]:
    """Return QEMU's words: two processors, two disks, a console, the channel, and no network."""
    words = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"]
    words += ["-m", "2048", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"]
    words += ["-kernel", str(image.kernel), "-initrd", str(image.initrd)]
    words += ["-append", "root=/dev/vda rw console=ttyS0 mitigations=off panic=1"]
    words += ["-drive", f"file={image.disk},format=raw,if=virtio,cache=writeback"]
    words += ["-drive", f"file={image.supplies},format=raw,if=virtio,readonly=on"]
    words += ["-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]
    words += ["-chardev", f"socket,id=channel,path={channel},server=on,wait=off"]
    return [*words, "-device", "virtserialport,chardev=channel,name=instar-test"]
