"""A real registry: Debian's docker-registry, started on a loopback address with what a test asks of it."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from free_ports import free_port

_START_S = 60.0


class RealRegistry:
    """One in ``folder``, with its blobs below it. ``user``: only who says that password (bcrypt, by Python's own
    libraries there is none: htpasswd's file is given). ``tls``: a pair of PEM files. ``deletes``: as it is asked."""

    def __init__(
        self,
        folder: Path,
        *,
        htpasswd: str | None = None,
        tls: tuple[Path, Path] | None = None,
        deletes: bool = True,
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.tls = tls
        self._child: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        configuration: dict[str, Any] = {
            "version": 0.1,
            "log": {"accesslog": {"disabled": True}, "level": "warn"},
            "storage": {
                "filesystem": {"rootdirectory": str(folder / "data")},
                "delete": {"enabled": deletes},
                "maintenance": {"uploadpurging": {"enabled": False}},
            },
            "http": {"addr": self.host},
        }
        if tls is not None:
            configuration["http"]["tls"] = {"certificate": str(tls[0]), "key": str(tls[1])}
        if htpasswd is not None:
            (folder / "htpasswd").write_text(htpasswd)
            configuration["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
        (folder / "config.yml").write_text(json.dumps(configuration))

    def start(self) -> None:
        program = shutil.which("docker-registry")
        assert program is not None, "docker-registry is missing: scripts/setup --test"
        with (self.folder / "log").open("ab") as log:
            self._child = subprocess.Popen([program, "serve", self.folder / "config.yml"], stdout=log, stderr=log)
        until = time.monotonic() + _START_S
        while True:
            with contextlib.suppress(OSError):
                self._answers()
                return
            assert time.monotonic() < until and self._child.poll() is None, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.02)

    def stop(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def _answers(self) -> None:
        if self.tls is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        else:
            anybody = ssl._create_unverified_context()
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=5, context=anybody)
        connection.request("GET", "/v2/")
        connection.getresponse().read()
        connection.close()

    def blobs(self) -> set[str]:
        """Return the hexadecimal digits of every blob that it has, manifests too."""
        return {path.parent.name for path in (self.folder / "data/docker/registry/v2/blobs/sha256").glob("*/*/data")}


@contextlib.contextmanager
def running(registry: RealRegistry) -> Iterator[RealRegistry]:
    registry.start()
    try:
        yield registry
    finally:
        registry.stop()
