"""Instar as it is measured: the command line as a process, on a copy of the guestbook."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
INSTAR = ROOT / ".venv/bin/instar"
GUESTBOOK = ROOT / "examples/guestbook"


@dataclass(frozen=True, kw_only=True)
class Timed:
    """What a command answered and how long it took."""

    answer: Any
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A definition's folder and a state directory."""

    folder: Path
    home: Path
    port: int

    def run(self, *words: str, json_too: bool = True) -> Timed:
        """Run a command that must succeed; time it from before its start to after its end."""
        argv = [str(INSTAR), *words, *(["--json"] if json_too else [])]
        began = time.perf_counter()
        done = subprocess.run(argv, cwd=self.folder, env=self.environ, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - began
        if done.returncode != 0:
            raise RuntimeError(f"instar {' '.join(words)} ended with {done.returncode}: {done.stderr[-2000:]}")
        return Timed(answer=json.loads(done.stdout) if json_too else None, seconds=seconds)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command; ``finish`` waits for its end."""
        argv = [str(INSTAR), *words]
        return subprocess.Popen(
            argv, cwd=self.folder, env=self.environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    @staticmethod
    def finish(process: subprocess.Popen[str]) -> None:
        _, errors = process.communicate(timeout=120)
        if process.returncode != 0:
            raise RuntimeError(f"instar ended with {process.returncode}: {errors[-2000:]}")

    @property
    def environ(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": "/root", "INSTAR_HOME": str(self.home)}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def destroy(self) -> None:
        """Leave nothing running."""
        for environment in self.run("status").answer:
            name = f"{environment['service']}/{environment['environment']}"
            self.run("destroy", name, "--yes", "--volumes", json_too=False)


def guestbook(folder: Path, home: Path, *, run_lines: bool = True) -> Subject:
    """Copy the guestbook; without ``run_lines`` an edit changes the layer of files and no other."""
    shutil.copytree(GUESTBOOK, folder)
    port = free_port()
    text = (folder / "instar.yaml").read_text().replace("listen: 127.0.0.1:8080", f"listen: 127.0.0.1:{port}")
    if not run_lines:
        before, rest = text.split("  run:", 1)
        text = before + rest[rest.index("  env:") :]
    (folder / "instar.yaml").write_text(text)
    return Subject(folder=folder, home=home, port=port)


def set_version(app: Path, version: str) -> None:
    """Change one file of the application, as an editor saves it."""
    source = app / "guestbook.py"
    lines = source.read_text().splitlines(keepends=True)
    changed = [f'VERSION = "{version}"\n' if line.startswith("VERSION =") else line for line in lines]
    source.write_text("".join(changed))


def wait_for_version(url: str, version: str, timeout_s: float = 60) -> None:
    """Ask again and again until the answer comes from ``version``."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.headers["X-Guestbook-Version"] == version:
                    return
        except OSError:
            if time.monotonic() > deadline:
                raise
        if time.monotonic() > deadline:
            raise RuntimeError(f"{url} never answered as version {version}")
        time.sleep(0.005)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
