"""A user's folder with a small service in it, and the command line run there as a process.

The service is BusyBox's httpd with three scripts: it starts in milliseconds, tells its version (a file of the image),
its GREETING (configuration) and its instance, and misbehaves as its MODE (configuration) says, so that one image
serves all tests.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import leftovers
from leftovers import remove_state

from free_ports import free_port

INSTAR = Path(sys.prefix) / "bin/instar"

DEFINITION = """\
name: hello

image:
  base: debian:bookworm
  packages: [busybox-static]
  files:
    - {from: app, to: /srv}

service:
  command: [/srv/serve]
  workdir: /srv
  port: 8080
  health: {path: /cgi-bin/health, interval: 100ms, timeout: 1s, deadline: 4s}
  stop: {grace: 2s, drain: 5s}
  limits: {memory: 64M, cpus: 1.0, pids: 64}

environments:
  dev:
    listen: 127.0.0.1:DEV_PORT
    config: {GREETING: hello}
  production:
    listen: 127.0.0.1:PRODUCTION_PORT
    instances: 2
    promote_from: dev
    config: {GREETING: good day}
"""

SERVE = """\
#!/bin/sh
echo "serving as ${MODE:-well}"
case "$MODE" in
  dies) echo "no module named redis" >&2; exit 3 ;;
  wrong-port) exec busybox httpd -f -p 8081 -h /srv/www ;;
  deaf) exec sleep 1000 ;;
esac
exec busybox httpd -f -p 8080 -h /srv/www
"""

HEALTH = """\
#!/bin/sh
case "$MODE" in
  sick) printf 'Status: 500 Internal Server Error\\r\\nContent-Length: 0\\r\\n\\r\\n' ;;
  late) sleep 3; printf 'Status: 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n' ;;
  *) printf 'Status: 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n' ;;
esac
"""

HELLO = """\
#!/bin/sh
case "$QUERY_STRING" in sleep=*) sleep "${QUERY_STRING#sleep=}" ;; esac
version=$(cat /srv/version)
printf 'Status: 200 OK\\r\\nX-Version: %s\\r\\nContent-Type: text/plain\\r\\n\\r\\n' "$version"
printf '%s from version %s\\n' "$GREETING" "$version"
"""


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a command ended and what it printed."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True, kw_only=True)
class Project:
    """A definition's folder and a state directory of its own. ``command`` is what runs there as ``instar``."""

    folder: Path
    home: Path
    ports: Mapping[str, int]
    command: tuple[str | Path, ...] = (INSTAR,)

    @property
    def environ(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "INSTAR_HOME": str(self.home)}

    def try_instar(self, *words: str, timeout_s: float = 120, stdin: str | None = None) -> Result:
        """Run a command to its end, however that is."""
        with self.start(*words, stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL) as process:
            try:
                out, err = process.communicate(stdin, timeout=timeout_s)
            except BaseException:
                process.kill()
                raise
        return Result(status=process.returncode, out=out, err=err)

    def instar(self, *words: str, timeout_s: float = 120) -> Result:
        """Run a command that must succeed."""
        result = self.try_instar(*words, timeout_s=timeout_s)
        assert result.status == 0, f"instar {' '.join(words)} ended with {result.status}:\n{result.err}{result.out}"
        return result

    def json(self, *words: str) -> Any:
        """Run a command that must succeed, and return what it answers."""
        return self.instar(*words, "--json").json

    def start(self, *words: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        """Start a command and leave it running."""
        return subprocess.Popen(
            [*self.command, *words],
            cwd=self.folder,
            env=self.environ,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def edit(self, old: str, new: str, file: str = "instar.yaml") -> None:
        path = self.folder / file
        text = path.read_text()
        assert old in text, f"{old!r} is not in {file}"
        path.write_text(text.replace(old, new))

    def set_version(self, version: str) -> None:
        (self.folder / "app/version").write_text(f"{version}\n")

    def set_mode(self, mode: str) -> None:
        """Make the next release of dev misbehave, by configuration: its image stays the same."""
        self.edit("config: {GREETING: hello}", f"config: {{GREETING: hello, MODE: {mode}}}")

    def url(self, environment: str = "dev", path: str = "/cgi-bin/hello") -> str:
        return f"http://127.0.0.1:{self.ports[environment]}{path}"

    def get(self, environment: str = "dev", path: str = "/cgi-bin/hello") -> str:
        """Return what a request through the router is answered."""
        with urllib.request.urlopen(self.url(environment, path), timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    def instance_ids(self, environment: str = "dev") -> set[str]:
        status = self.json("status", environment)
        return {instance["id"] for release in status["releases"] for instance in release["instances"]}

    def pid(self, instance: str) -> int:
        """Return the pid of an instance's first process."""
        return int(json.loads((self.home / "run/instances" / instance / "process.json").read_text())["pid"])

    def traces(self) -> list[str]:
        """Return what of this project is on the machine outside of its files."""
        mark = self.home / "id"
        return leftovers.traces(str(self.home), *(mark.read_text().split() if mark.exists() else ()))

    def destroy_all(self) -> None:
        """Destroy every environment, ending whatever still works on one, and clear up: then nothing may be left."""
        for environment in self.json("status"):
            name = f"{environment['service']}/{environment['environment']}"
            self.instar("destroy", name, "--yes", "--volumes", "--take-over")
        self.instar("gc")
        left = leftovers.remaining(self.traces)
        assert not left, "left behind:\n" + "\n".join(left)


def write_service(folder: Path) -> None:
    """Write the service's files below ``folder``."""
    scripts = {"serve": SERVE, "www/cgi-bin/health": HEALTH, "www/cgi-bin/hello": HELLO}
    for name, text in scripts.items():
        path = folder / "app" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    (folder / "app/version").write_text("1\n")


def new_project(folder: Path, home: Path, *, lock: Path | None = None) -> Project:
    """Write a project with two free ports of its own; with ``lock``, so that it needs no network."""
    ports = {"dev": free_port(), "production": free_port()}
    folder.mkdir(parents=True, exist_ok=True)
    write_service(folder)
    text = DEFINITION.replace("DEV_PORT", str(ports["dev"])).replace("PRODUCTION_PORT", str(ports["production"]))
    (folder / "instar.yaml").write_text(text)
    if lock is not None:
        shutil.copy(lock, folder / "instar.lock")
    return Project(folder=folder, home=home, ports=ports)


def wait_for(condition: Callable[[], bool], otherwise: str | Callable[[], str], *, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(otherwise if isinstance(otherwise, str) else otherwise())
        time.sleep(0.02)


def answers(project: Project, environment: str = "dev") -> bool:
    with contextlib.suppress(OSError, urllib.error.HTTPError):
        return bool(project.get(environment))
    return False


def end(process: subprocess.Popen[str], number: signal.Signals) -> Result:
    """Send a signal and wait for the end."""
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return Result(status=process.returncode, out=out, err=err)


@contextlib.contextmanager
def baked_project(folder: Path, command: Sequence[str | Path] = (INSTAR,)) -> Iterator[Project]:
    """Make a project whose image is baked and was run once, by ``command``. Only to be copied from."""
    made = dataclasses.replace(new_project(folder / "hello", folder / "home"), command=tuple(command))
    try:
        try:
            made.instar("deploy", "dev", timeout_s=300)
        finally:
            made.destroy_all()
        yield made
    finally:
        remove_state(made.home)


def baked_once(folder: Path) -> Project:
    """Return a baked project that is at ``folder``, for all processes that share the tests; who comes first makes it.
    Nothing of it is on the machine but its files, which pytest removes."""
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            draft = folder.with_suffix(f".{os.getpid()}")
            with baked_project(draft / "made") as made:
                copied = draft / "copied"
                _copy_state(made, new_project(copied / "hello", copied / "home", lock=made.folder / "instar.lock"))
            copied.rename(folder)
    return Project(folder=folder / "hello", home=folder / "home", ports={})


def _copy_state(baked: Project, made: Project) -> None:
    """Have ``made``, which has no state yet, know what was baked."""
    made.home.mkdir(mode=0o700)
    for name in ("store", "steps", "cache", "layers"):
        shutil.copytree(baked.home / name, made.home / name, copy_function=_link)


@contextlib.contextmanager
def copied_project(baked: Project, folder: Path) -> Iterator[Project]:
    """Make one like it with a state of its own. Afterwards nothing of it may be left on the machine."""
    made = new_project(folder / "hello", folder / "home", lock=baked.folder / "instar.lock")
    _copy_state(baked, made)
    yield made
    made.destroy_all()
    remove_state(made.home)


def keep_to_itself(project: Project) -> None:
    """Have what is linked to other projects' state be its own: who writes in place writes to it alone then."""
    for path in [path for path in project.home.rglob("*") if path.is_file() and path.stat().st_nlink > 1]:
        own = path.with_name(f"{path.name}.own")
        shutil.copy2(path, own)
        own.rename(path)


def require_its_own(path: Path) -> None:
    """Raise where what is written to a file in place would be written to another project's too."""
    assert path.stat().st_nlink == 1, f"{path} is linked to another project's: keep_to_itself()"


_SMALL = 1 << 20


def _link(source: str, target: str) -> None:
    """Link what is large, since Instar writes nothing in a store in place; copy what is immutable and can't be linked,
    and what is small: tests that damage files write in place."""
    if Path(source).stat().st_size < _SMALL:
        shutil.copy2(source, target)
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
