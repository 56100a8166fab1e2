"""Runs in the machine under test: does what it is told over a virtio-serial port, one script at a time.

A request is one line of JSON, {"number", "script", "timeout_s"}; so is its answer, {"number", "returncode", "output"},
with null for the status of a script that did not end in time. It needs nothing but Python's standard library.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

PORT = Path("/dev/virtio-ports/instar-test")
_OUTPUT_BYTES = 200_000
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}


def main() -> int:
    with PORT.open("r+b", buffering=0) as port:
        send(port.fileno(), {"number": 0, "returncode": 0, "output": "ready"})
        for line in lines(port.fileno()):
            request = json.loads(line)
            returncode, output = run(request["script"], request["timeout_s"])
            send(port.fileno(), {"number": request["number"], "returncode": returncode, "output": output})
    return 0


def lines(port: int) -> Any:
    text = b""
    while chunk := os.read(port, 65536):
        text += chunk
        while b"\n" in text:
            line, _, text = text.partition(b"\n")
            yield line


def run(script: str, timeout_s: float) -> tuple[int | None, str]:
    """Run a script to its end; what it left running, in whatever session, may go on."""
    scratch = Path("/run/instar-test-output")
    with scratch.open("w+b") as output:
        child = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=_ENVIRONMENT,
            cwd="/root",
            start_new_session=True,
        )
        try:
            returncode: int | None = child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            returncode = None
    return returncode, scratch.read_bytes()[-_OUTPUT_BYTES:].decode(errors="replace")


def send(port: int, answer: dict[str, Any]) -> None:
    text = json.dumps(answer).encode() + b"\n"
    while text:
        text = text[os.write(port, text) :]


if __name__ == "__main__":
    sys.exit(main())
