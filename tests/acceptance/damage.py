"""A file of the state that is damaged for a while, and a command that is tried on it in a process of its own."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from instar.cli import main as door


@dataclass(frozen=True, kw_only=True)
class Told:
    status: int
    text: str
    seconds: float


PIPE = b"in its place there is a pipe to which nobody writes"


def kind_of(path: Path, home: Path) -> str:
    """Return what a file below ``home`` is, whatever instance, release or digest it is of."""
    name = str(path.relative_to(home))
    name = re.sub(r"[0-9a-f]{64}", "HEX", name)
    name = re.sub(r"(?<![0-9a-f])[0-9a-f]{16}(?![0-9a-f])", "HEX16", name)
    name = re.sub(r"hello-(dev|production)-\d+-\d+", "INSTANCE", name)
    name = re.sub(r"hello/(dev|production)", "SERVICE/ENV", name)
    return re.sub(r"hello--(dev|production)", "SERVICE--ENV", name)


@contextlib.contextmanager
def damaged(path: Path, content: bytes | None) -> Iterator[None]:
    """Have ``path`` hold ``content`` inside, be a pipe, or be lost; afterwards it holds what it held, unless somebody
    put it right meanwhile."""
    status, before = path.stat(), path.read_bytes()
    if content is None or content is PIPE:
        path.unlink()
        if content is PIPE:
            os.mkfifo(path)
    else:
        path.chmod(status.st_mode | 0o200)
        path.write_bytes(content)
    try:
        yield
    finally:
        now = PIPE if path.is_fifo() else path.read_bytes() if path.exists() else None
        if now == content and path.parent.is_dir():
            path.unlink(missing_ok=True)
            path.write_bytes(before)
            path.chmod(status.st_mode)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def run(words: tuple[str, ...], *, folder: Path, home: Path, limit_s: float = 60.0) -> Told:
    """Run a command to its end in a fork of this process, which has imported everything already."""
    for name in set(door._COMMANDS.values()):
        importlib.import_module(f"instar.cli.{name}")
    began = time.monotonic()
    with tempfile.TemporaryFile() as output:
        pid = os.fork()
        if pid == 0:
            _become(words, folder, home, output.fileno())
        while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
            if time.monotonic() - began > limit_s:
                os.kill(pid, 9)
                os.waitpid(pid, 0)
                raise AssertionError(f"instar {' '.join(words)} has not ended after {limit_s:g} s")
            time.sleep(0.002)
        output.seek(0)
        text = output.read().decode(errors="replace")
    return Told(status=os.waitstatus_to_exitcode(ended[1]), text=text, seconds=time.monotonic() - began)


def _become(words: tuple[str, ...], folder: Path, home: Path, output: int) -> None:
    status = 70
    try:
        os.chdir(folder)
        os.environ["INSTAR_HOME"] = str(home)
        null = os.open(os.devnull, os.O_RDONLY)
        for number, descriptor in ((0, null), (1, output), (2, output)):
            os.dup2(descriptor, number)
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
        sys.argv = ["instar", *words]
        door.main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
