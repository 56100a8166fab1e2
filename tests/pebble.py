"""A real authority that speaks ACME: pebble and its DNS server, built from their released module by Go.

They listen on 127.0.0.1 alone, and every name leads there. Built once, below the user's cache, under their version.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from free_ports import free_port
from instar.certificates.own_authority import OwnAuthority

VERSION = "2.10.3"
_PROGRAMS = ("pebble", "pebble-challtestsrv")
_START_S = 20.0


def pebble_programs() -> Path:
    """Return the folder with both programs, built when they are not there. Skips where there is no Go to build them."""
    folder = Path.home() / ".cache" / "instar-tests" / f"pebble-{VERSION}"
    if all((folder / name).exists() for name in _PROGRAMS):
        return folder
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
    if go is None:
        pytest.skip(f"pebble {VERSION} is not built yet, and there is no Go to build it with: apt-get install golang")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _build(go, folder)
    return folder


def _build(go: str, folder: Path) -> None:
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    modules = [f"github.com/letsencrypt/pebble/v2/cmd/{name}@v{VERSION}" for name in _PROGRAMS]
    done = subprocess.run(  # noqa: PLW1510
        [go, "install", *modules], env={**os.environ, "GOBIN": str(draft)}, capture_output=True, timeout=600
    )
    if done.returncode:
        shutil.rmtree(draft, ignore_errors=True)
        pytest.skip(f"cannot build pebble {VERSION}: {done.stderr.decode()[-500:]}")
    draft.rename(folder)


class Pebble:
    """An authority whose validations reach 127.0.0.1:``http_port``, whatever the name.

    ``settings`` goes into its configuration; ``environ`` into its environment (it rejects one nonce in twenty, and
    keeps nobody waiting, unless that says otherwise). Its certificates are of 90 days: whoever orders without naming a
    profile is given any of those that it has (``profiles``: seconds by name), so it has one.
    """

    def __init__(self, folder: Path, http_port: int, *, dns: str | None = None, **environ: str) -> None:
        self.folder = folder
        self.http_port = http_port
        self.port, self._management, self._dns_management = free_port(), free_port(), free_port()
        self.dns = dns or f"127.0.0.1:{free_port()}"
        self.profiles = {"default": 90 * 24 * 3600}
        self._environ = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "5", **environ}
        self.directory = f"https://localhost:{self.port}/dir"
        self.ca = folder / "pebble-ca.pem"
        self._programs = pebble_programs()
        self._children: list[subprocess.Popen[bytes]] = []
        self._certify()

    def start(self) -> None:
        config = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self._management}",
            "certificate": str(self.folder / "pebble.pem"),
            "privateKey": str(self.folder / "pebble.key"),
            "httpPort": self.http_port,
            "tlsPort": free_port(),
            "keyAlgorithm": "ecdsa",
            "domainBlocklist": ["blocked.test"],
            "retryAfter": {"authz": 1, "order": 1},
            "profiles": {
                name: {"description": name, "validityPeriod": seconds} for name, seconds in self.profiles.items()
            },
        }
        (self.folder / "pebble.json").write_text(json.dumps({"pebble": config}))
        off = [f"-{name}=" for name in ("http01", "https01", "tlsalpn01", "doh")]
        names = [self._programs / "pebble-challtestsrv", *off, "-defaultIPv4=127.0.0.1", "-defaultIPv6="]
        names += [f"-dnsserver={self.dns}", f"-management=127.0.0.1:{self._dns_management}"]
        own = [self._programs / "pebble", "-config", self.folder / "pebble.json", "-dnsserver", self.dns]
        for words in (names, own):
            log = (self.folder / "pebble.log").open("ab")
            environ = {**os.environ, **self._environ}
            self._children.append(subprocess.Popen(words, env=environ, stdout=log, stderr=log))
        self._wait()

    def stop(self) -> None:
        for child in self._children:
            child.kill()
            child.wait()
        self._children.clear()

    @property
    def log(self) -> str:
        return (self.folder / "pebble.log").read_text()

    def root(self) -> str:
        """Return the root of what it signs."""
        return self._get(f"https://localhost:{self._management}/roots/0").decode()

    def manage(self, path: str, **body: Any) -> None:
        """Tell it itself something, such as ``set-renewal-info``."""
        url = f"https://localhost:{self._management}/{path}"
        urllib.request.urlopen(url, json.dumps(body).encode(), timeout=10, context=self._trust())

    @property
    def dns_url(self) -> str:
        """Where its DNS server is told what it answers."""
        return f"http://127.0.0.1:{self._dns_management}"

    def tell_dns(self, path: str, **body: Any) -> None:
        urllib.request.urlopen(f"{self.dns_url}/{path}", json.dumps(body).encode(), timeout=10)

    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))

    def _get(self, url: str) -> bytes:
        with urllib.request.urlopen(url, timeout=10, context=self._trust()) as answer:
            data: bytes = answer.read()
        return data

    def _certify(self) -> None:
        authority, now = OwnAuthority(self.folder / "pebble-authority", "pebble"), datetime.now(UTC)
        pair = authority.issue(["localhost"], now)
        self.ca.write_bytes(authority.root(now))
        (self.folder / "pebble.pem").write_bytes(pair.chain)
        (self.folder / "pebble.key").write_bytes(pair.key)

    def _wait(self) -> None:
        until = time.monotonic() + _START_S
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                self._get(self.directory)
                self._get(f"https://localhost:{self._management}/roots/0")
                self.tell_dns("clear-txt", host="none.")
                return
            time.sleep(0.05)
        raise AssertionError(f"pebble did not start: {self.log[-2000:]}")


@contextlib.contextmanager
def running(pebble: Pebble) -> Iterator[Pebble]:
    pebble.start()
    try:
        yield pebble
    finally:
        pebble.stop()
