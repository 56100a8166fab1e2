"""Docker Engine as Debian packages it, beside the host: unpacked, not installed, and started by hand.

A bridge, a data directory and a socket of its own; no rule of the host's firewall is touched, so its containers have
no way out, which nothing here needs. HAProxy stands before it as people put it there: a file, and a reload.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

BRIDGE = "instarbench0"
NETWORK = "10.213.77.1/24"
PACKAGES = ("docker.io", "containerd", "tini")
HEALTH_PERIOD_S = 0.01


class Docker:
    """A running Docker Engine."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "docker.sock"
        self._client = folder / "root/usr/bin/docker"

    def command(self, *words: str, cwd: Path | None = None) -> str:
        """Run ``docker`` with BuildKit, which is the quicker of its two builders."""
        environ = {"PATH": os.environ["PATH"], "DOCKER_HOST": f"unix://{self._socket}", "DOCKER_BUILDKIT": "1"}
        done = subprocess.run([self._client, *words], cwd=cwd, env=environ, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"docker {words[0]} failed: {done.stderr[-2000:]}")
        return done.stdout.strip()

    def build(self, context: Path, tag: str) -> None:
        self.command("build", "--quiet", "--tag", tag, str(context))

    def run(self, tag: str, volume: Path) -> str:
        """Start a container as narrow as the guestbook's limits say; return its id."""
        return self.command(
            *("run", "--detach", "--init", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
            *("--security-opt", "no-new-privileges", "--user", "10001:10001"),
            *("--memory", "256m", "--cpus", "1", "--pids-limit", "128"),
            *("--volume", f"{volume}:/var/lib/guestbook", tag),
        )

    def address(self, container: str) -> str:
        return self.command("inspect", "--format", "{{.NetworkSettings.IPAddress}}", container)

    def remove(self, container: str) -> None:
        self.command("rm", "--force", container)


@contextlib.contextmanager
def docker(folder: Path) -> Iterator[Docker]:
    """Run Docker Engine inside; at the end nothing of it is left but the unpacked packages below ``folder``."""
    unpack(folder, PACKAGES, "usr/sbin/dockerd")
    _forget(folder)
    _ip("link", "add", BRIDGE, "type", "bridge")
    _ip("address", "add", NETWORK, "dev", BRIDGE)
    _ip("link", "set", BRIDGE, "up")
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(_daemon(folder), env=_path(folder), stdout=log, stderr=log, start_new_session=True)
    engine = Docker(folder)
    try:
        _wait_until_ready(engine, daemon, folder / "log")
        yield engine
    finally:
        with contextlib.suppress(RuntimeError):
            for container in engine.command("ps", "--all", "--quiet").split():
                engine.remove(container)
        daemon.terminate()
        daemon.wait(60)
        _ip("link", "delete", BRIDGE)
        _forget(folder)


def _daemon(folder: Path) -> list[str]:
    return [
        str(folder / "root/usr/sbin/dockerd"),
        *("--data-root", str(folder / "data"), "--exec-root", str(folder / "run")),
        *("--pidfile", str(folder / "pid"), "--host", f"unix://{folder}/docker.sock", "--bridge", BRIDGE),
        *("--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"),
        *("--storage-driver", "overlay2", "--log-level", "warn"),
    ]


def _path(folder: Path) -> dict[str, str]:
    own = f"{folder}/root/usr/sbin:{folder}/root/usr/bin"
    return {"PATH": f"{own}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


def unpack(folder: Path, names: Sequence[str], program: str) -> None:
    """Have Debian's packages of these ``names`` unpacked below ``folder``/root, where they are if ``program`` is."""
    if (folder / "root" / program).exists():
        return
    packages = folder / "packages"
    shutil.rmtree(packages, ignore_errors=True)
    packages.mkdir(parents=True)
    # apt's own user cannot write here, which apt only warns about
    subprocess.run(["apt-get", "download", "-q", *names], cwd=packages, check=True, capture_output=True)
    for package in packages.glob("*.deb"):
        subprocess.run(["dpkg-deb", "--extract", package, folder / "root"], check=True)
    shutil.rmtree(packages)


def _forget(folder: Path) -> None:
    """Remove what a run has left: data and state."""
    for name in ("data", "run"):
        shutil.rmtree(folder / name, ignore_errors=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _wait_until_ready(engine: Docker, daemon: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            engine.command("version")
            return
        except RuntimeError as error:
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"dockerd did not start: {log.read_text()[-2000:]}") from error
            time.sleep(0.1)


class Proxy:
    """HAProxy before containers: one file with the server's address, written anew and reloaded for each change."""

    def __init__(self, folder: Path, port: int) -> None:
        self._file = folder / "haproxy.cfg"
        self._port = port
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/"

    def point(self, address: str) -> None:
        """Send new requests to ``address`` from now on; those in flight are finished by the old process."""
        self._file.write_text(
            "global\n  hard-stop-after 30s\n"
            "defaults\n  mode http\n  option idle-close-on-response\n  option redispatch 1\n"
            "  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n"
            f"frontend front\n  bind 127.0.0.1:{self._port}\n  default_backend back\n"
            f"backend back\n  server one {address}:8080 check inter 200ms\n"
        )
        before = [process for process in self._processes if process.poll() is None]
        finish = ["-sf", *(str(process.pid) for process in before)] if before else []
        self._processes = [
            *before,
            subprocess.Popen(["haproxy", "-db", "-f", self._file, *finish], stderr=subprocess.DEVNULL),
        ]

    def stop(self) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def wait_until_healthy(address: str, timeout_s: float = 60) -> None:
    """Ask a container's health check until it answers, much more often than Docker's own check would."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            urllib.request.urlopen(f"http://{address}:8080/healthz", timeout=2).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(HEALTH_PERIOD_S)
