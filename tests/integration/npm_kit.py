"""A registry of npm's on loopback that serves packages made here, and an image with this machine's node and npm."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import http.server
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from bake_kit import World, deb
from local_archive import served

from instar.model.lock import Package

NPM_TREES = ("/usr/lib/node_modules/npm", "/usr/share/nodejs", "/usr/share/npm", "/usr/lib/nodejs")


def package(files: Mapping[str, bytes | tarfile.TarInfo], **manifest: Any) -> bytes:
    """Return a package as npm packs it. A ``TarInfo`` is put in as it is."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        given = {"package/package.json": json.dumps(manifest).encode(), **files}
        for name, content in given.items():
            info = tarfile.TarInfo(name) if isinstance(content, bytes) else content
            info.size = len(content) if isinstance(content, bytes) else 0
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return gzip.compress(buffer.getvalue(), mtime=0)


def integrity(data: bytes) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()


@dataclass
class NpmRegistry:
    """``files``: what is answered, by path; ``statuses``: another status than 200; ``redirects``: where paths lead."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def publish(self, name: str, version: str, data: bytes) -> dict[str, Any]:
        """Serve a package; return its entry in a lock file, from a host that nobody has."""
        base = name.rpartition("/")[2]
        self.files[f"/{name}/-/{base}-{version}.tgz"] = data
        return {
            "version": version,
            "resolved": f"https://registry.example/{base}.tgz",
            "integrity": integrity(data),
        }

    def handler(self, *args: Any) -> http.server.BaseHTTPRequestHandler:
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = unquote(self.path)
                registry.asked.append((path, self.headers.get("Authorization")))
                there = registry.files.get(path)
                status = registry.statuses.get(path, 302 if path in registry.redirects else 200 if there else 404)
                self.send_response(status)
                if path in registry.redirects:
                    self.send_header("Location", registry.redirects[path])
                body = there if there and status == 200 else b""
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler(*args)


@contextmanager
def npm_registry(folder: Path) -> Iterator[NpmRegistry]:
    registry = NpmRegistry()
    with served(folder, registry.handler) as address:
        registry.address = address
        yield registry


def write_project(folder: Path, entries: Mapping[str, dict[str, Any]], name: str = "app", **manifest: Any) -> None:
    """Write package.json and the lock file that fits it; ``entries`` are what is directly below node_modules."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    wanted = {path: entry["version"] for path, entry in entries.items() if "/node_modules/" not in path}
    own = {"name": name, "version": "1.0.0", "dependencies": wanted}
    packages = {"": own, **{f"node_modules/{path}": entry for path, entry in entries.items()}}
    (folder / name / "package.json").write_text(json.dumps({**own, **manifest}, indent=2))
    (folder / name / "package-lock.json").write_text(
        json.dumps({"name": name, "version": "1.0.0", "lockfileVersion": 3, "requires": True, "packages": packages})
    )


def node_packages(world: World) -> list[Package]:
    """A base with this machine's shell, node and npm."""
    return [world.package("node", _node())]


@functools.cache
def _node() -> bytes:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("needs node and npm")
    files: dict[str, bytes | str | None] = {}
    programs = {
        "usr/bin/node": Path(node).resolve(),
        "usr/bin/env": Path("/usr/bin/env"),
        "bin/dash": Path("/bin/dash"),
    }
    programs |= {f"bin/{name}": Path("/bin", name) for name in ("cat", "ls", "touch")}
    told = subprocess.run(["ldd", *programs.values()], capture_output=True, text=True, check=True).stdout
    libraries = {word for word in told.split() if word.startswith("/") and not word.endswith(":")}
    for name, path in (*programs.items(), *((one.lstrip("/"), Path(one)) for one in libraries)):
        files[name] = path.read_bytes()
    for top in filter(os.path.isdir, NPM_TREES):
        for path in Path(top).rglob("*"):
            inside = str(path).lstrip("/")
            if path.is_symlink():
                files[inside] = str(path.readlink())
            elif path.is_file():
                files[inside] = path.read_bytes()
    files |= {"bin/sh": "dash", "usr/bin/npm": os.path.realpath(npm)}
    folders = {f"{parent}/": None for name in files for parent in Path(name).parents if str(parent) != "."}
    folders |= dict.fromkeys(("./", "etc/", "srv/", "tmp/", "root/"))
    executable = [*programs, *(one.lstrip("/") for one in libraries), os.path.realpath(npm).lstrip("/")]
    return deb("node", {**dict(sorted(folders.items())), **files}, executable=executable, fast=True)
