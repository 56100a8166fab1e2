"""The command line in processes that are forked from one which has imported what commands have in common: most of the
processor's time that a short one takes, of which a run of the tests on a cluster has a thousand.

Each command is a process of its own, in the folder and environment that it is given, and imports by itself whatever
else it needs. The one that they are forked from has done nothing but import, and ends with the process that asks.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NoReturn

_COMMON = (
    "httpcore2",
    "instar.cli.releases",
    "instar.cli.status",
    "instar.operations.deploy",
    "instar.operations.status",
    "instar.providers.kubernetes.client",
    "instar.providers.kubernetes.provider",
    "instar.workspace",
    "lightkube",
)
_LONGEST_BYTES = 64 << 10  # of what is asked for


def run(
    words: tuple[str, ...], folder: Path, environ: Mapping[str, str], *, timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """Run ``instar`` with these words to its end. Raises TimeoutExpired, and ends it, when that takes too long."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        status = _wait(_begun(words, folder, environ, out, err), words, timeout_s)
        printed = [(file.seek(0), file.read())[1] for file in (out, err)]
    return subprocess.CompletedProcess(words, status, *printed)


def _begun(words: tuple[str, ...], folder: Path, environ: Mapping[str, str], out: IO[str], err: IO[str]) -> IO[bytes]:
    """Begin a command; return what its number is read from, and then its exit status."""
    reading, writing = os.pipe()
    asked = json.dumps({"words": words, "folder": str(folder), "environ": dict(environ)}).encode()
    assert len(asked) <= _LONGEST_BYTES, "that is too much for a command"
    socket.send_fds(_server()[0], [asked], [out.fileno(), err.fileno(), writing])
    os.close(writing)
    return os.fdopen(reading, "rb", buffering=0)


def _wait(told: IO[bytes], words: tuple[str, ...], timeout_s: float) -> int:
    with told:
        number = int(told.readline())
        if not select.select([told], [], [], timeout_s)[0]:
            os.kill(number, signal.SIGKILL)
            told.readline()
            raise subprocess.TimeoutExpired(words, timeout_s)
        return int(told.readline())


@functools.cache
def _server() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Return the way to what forks commands, one for this process, and that."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": ":".join(sys.path)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
    return ours, process


def import_common() -> None:
    for name in _COMMON:
        importlib.import_module(name)


def serve(descriptor: int) -> None:
    import_common()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=descriptor) as asking:
        while True:
            asked, descriptors, _, _ = socket.recv_fds(asking, _LONGEST_BYTES, 3)
            if not asked:
                return
            if os.fork() == 0:
                asking.close()
                _keep(json.loads(asked), *descriptors)
            for one in descriptors:
                os.close(one)


def _keep(asked: Mapping[str, Any], out: int, err: int, told: int) -> NoReturn:
    """Be the command, in a process of its own, or who tells how that has ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    number = os.fork()
    if number:
        os.write(told, f"{number}\n".encode())
        os.write(told, f"{os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])}\n".encode())
        os._exit(0)
    for descriptor, own in ((out, 1), (err, 2)):
        os.dup2(descriptor, own)
    for descriptor in (out, err, told):
        os.close(descriptor)
    _become(**asked)


def _become(words: list[str], folder: str, environ: Mapping[str, str]) -> NoReturn:
    from instar.cli.main import main

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = ["-c", *words]
    main()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
