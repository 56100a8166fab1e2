"""A Debian archive on loopback: small enough to say in a test what is in it, real enough for apt."""

from __future__ import annotations

import hashlib
import http.server
import os
import re
import socketserver
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import partial
from pathlib import Path

from signing import Signer

from instar.lock.fit import host_architecture


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(socketserver.ThreadingTCPServer):
    """Not http.server's own, which asks a resolver for this machine's name."""

    allow_reuse_address = True
    daemon_threads = True


@contextmanager
def served(folder: Path, handler: Callable[..., http.server.BaseHTTPRequestHandler] | None = None) -> Iterator[str]:
    """Serve ``folder`` on loopback; give its address."""

    def build(*args: object) -> http.server.BaseHTTPRequestHandler:
        return (handler or partial(_Handler, directory=str(folder)))(*args)

    with _Server(("127.0.0.1", 0), build) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@dataclass
class LocalArchive:
    """Packages by suite. Whatever is added or removed shows after :meth:`publish`."""

    folder: Path
    address: str
    packages: dict[tuple[str, str, str], str] = field(default_factory=dict)
    edition: int = 0
    label: str = "Test"
    codename: str | None = None  # another one than each suite's name
    more: tuple[str, ...] = ()  # suites besides
    signer: Signer | None = None
    extra: str = ""  # lines of the Release files
    architectures: tuple[str, ...] = field(default_factory=lambda: (host_architecture(),))

    def add(self, name: str, version: str, *, suite: str = "bookworm", content: bytes = b"", **fields: str) -> None:
        """Add a package, for this machine's architecture unless ``architecture`` is another."""
        other = fields.get("architecture", "").replace(host_architecture(), "")
        of = f"_{other}" if other else ""
        path = f"pool/{name}_{version.replace(':', '%3a')}{of}.deb"
        body = content or f"{name} {version}{of}".encode()
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)
        lines = {
            "Package": name,
            "Version": version,
            "Architecture": host_architecture(),
            "Maintainer": "Nobody <nobody@invalid>",
            **{key.replace("_", "-").capitalize(): value for key, value in fields.items()},
            "Filename": path,
            "Size": str(len(body)),
            "SHA256": hashlib.sha256(body).hexdigest(),
            "Description": name,
        }
        self.packages[(suite, f"{name}{of}", version)] = "".join(f"{key}: {value}\n" for key, value in lines.items())

    def remove(self, name: str, version: str, *, suite: str = "bookworm") -> None:
        del self.packages[(suite, name, version)]
        (self.folder / f"pool/{name}_{version}.deb").unlink()

    def publish(self, date: float = 1_700_000_000) -> None:
        for suite in ("bookworm", "bookworm-security", *self.more):
            indexes = {f"main/binary-{one}/Packages": self._index(suite, one) for one in self.architectures}
            for place, index in indexes.items():
                file = self.folder / "dists" / suite / place
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(index)
            hashes = "".join(
                f" {hashlib.sha256(index).hexdigest()} {len(index)} {place}\n" for place, index in indexes.items()
            )
            release = self.folder / "dists" / suite / "Release"
            release.write_text(
                f"Label: {self.label}{' Security' if suite.endswith('security') else ''}\n"
                f"Origin: {self.label}\nSuite: old\nCodename: {self.codename or suite}\n"
                f"Date: {formatdate(date, usegmt=True)}\nArchitectures: {' '.join(self.architectures)}\n"
                f"Components: main\n{self.extra}SHA256:\n{hashes}"
            )
            if self.signer is not None:
                self.signer.sign(release)
            self.edition += 1  # servers tell editions apart by whole seconds, and tests are faster
            for path in release.parent.glob("*Release"):
                os.utime(path, (1_700_000_000 + self.edition,) * 2)

    def _index(self, suite: str, architecture: str) -> bytes:
        mine = re.compile(rf"(?m)^Architecture: (?:{architecture}|all)$")
        return "\n".join(text for (of, *_), text in self.packages.items() if of == suite and mine.search(text)).encode()

    def sources(self, file: Path) -> Path:
        suites = ("bookworm", "bookworm-security", *self.more)
        file.write_text("".join(f"deb [trusted=yes] {self.address} {suite} main\n" for suite in suites))
        return file


def fill(archive: LocalArchive) -> None:
    """The least that a base is made of, and Python."""
    for architecture in archive.architectures:
        of = {"architecture": architecture}
        archive.add("libc6", "2.36-9", **of)
        archive.add("bash", "5.2-1", essential="yes", depends="libc6", **of)
        archive.add("init-helpers", "1.0", essential="yes", depends="usrmerge | usr-is-merged", **of)
        archive.add("usrmerge", "37", depends="perl", **of)
        archive.add("usr-is-merged", "37", conflicts="usrmerge", **of)
        archive.add("perl", "5.36", **of)
        archive.add("apt", "2.6", **of)
        archive.add("python3", "3.11.2-1", depends="libc6", **of)


def make_wheel(folder: Path, project: str, version: str, tag: str = "py3-none-any", requires: str = "") -> Path:
    path = folder / f"{project}-{version}-{tag}.whl"
    info = f"{project}-{version}.dist-info"
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    texts = {
        "METADATA": f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n{needs}",
        "WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as file:
        for name, text in texts.items():
            file.writestr(zipfile.ZipInfo(f"{info}/{name}"), text)  # of no date: the same bytes each time
    return path
