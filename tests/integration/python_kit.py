"""An image with this machine's Python, source distributions made here, and sandboxes of a world's own."""

from __future__ import annotations

import functools
import gzip
import io
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bake_kit import World, deb

from instar.bake.baking import bake_stage
from instar.bake.stage_sandbox import StageSandbox, opened
from instar.definition.parts import ImagePart
from instar.model.lock import Lock, Package

_PYTHON = Path("/usr/bin/python3.11")
_LEFT_OUT = {"test", "idlelib", "lib2to3", "ensurepip", "__pycache__", "config-3.11-x86_64-linux-gnu", "tkinter"}

BACKEND = """\
import os, pathlib, zipfile
HERE = pathlib.Path(__file__).parent
def build_wheel(folder, settings, metadata=None):
    {hook}
    name = "acme-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("acme/__init__.py", "VALUE = {value}\\n")
        made.writestr("acme-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        made.writestr("acme-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: acme\\nVersion: 1.0\\n")
        made.writestr("acme-1.0.dist-info/RECORD", "")
    return name
"""
MANIFEST = '[build-system]\nrequires = []\nbuild-backend = "own"\nbackend-path = ["."]\n'


def sdist(hook: str = "pass", value: str = "1", files: Mapping[str, bytes | tarfile.TarInfo] | None = None) -> bytes:
    """Return a source distribution of acme 1.0, with a backend of its own, which does ``hook`` first."""
    given: dict[str, bytes | tarfile.TarInfo] = {
        "acme-1.0/PKG-INFO": b"Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n",
        "acme-1.0/pyproject.toml": MANIFEST.encode(),
        "acme-1.0/own.py": BACKEND.format(hook=hook, value=value).encode(),
        **(files or {}),
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in given.items():
            info = tarfile.TarInfo(name) if isinstance(content, bytes) else content
            info.size = len(content) if isinstance(content, bytes) else 0
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return gzip.compress(buffer.getvalue(), mtime=0)


def python_packages(world: World, *more: str) -> list[Package]:
    """A base with this machine's Python, dash, cp and mkdir, and ``more`` empty files."""
    return [world.package("python3", _python(more))]


@functools.cache
def _python(more: tuple[str, ...]) -> bytes:
    files: dict[str, bytes | str | None] = dict.fromkeys(more, b"")
    library = Path("/usr/lib/python3.11")
    modules = [path for path in (library / "lib-dynload").iterdir() if path.is_file()]
    programs = [_PYTHON, *(Path("/usr/bin", name) for name in ("dash", "cp", "mkdir", "cat")), *modules]
    said = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=True).stdout
    libraries = {word for word in said.split() if word.startswith("/") and not word.endswith(":")}
    for path in (*programs, *(Path(one) for one in libraries)):
        files[str(path).lstrip("/")] = path.read_bytes()
    for path in library.rglob("*"):
        if path.is_file() and not path.is_symlink() and not _LEFT_OUT.intersection(path.parts):
            files[str(path).lstrip("/")] = path.read_bytes()
    files |= {"usr/bin/python3": "python3.11", "bin/sh": "/usr/bin/dash"}
    folders = {f"{parent}/": None for name in files for parent in Path(name).parents if str(parent) != "."}
    folders |= dict.fromkeys(("./", "etc/", "srv/", "tmp/", "root/"))
    executable = [str(path).lstrip("/") for path in (*programs, *map(Path, libraries))]
    return deb("python3", {**dict(sorted(folders.items())), **files}, executable=executable, fast=True)


class Sandboxes:
    """Opens sandboxes in a world, as an operation does in a workspace."""

    def __init__(self, world: World) -> None:
        self.world, self.opened = world, 0

    @contextmanager
    def __call__(self, part: ImagePart, lock: Lock, verb: str, what: str) -> Iterator[StageSandbox]:
        world = self.world
        self.opened += 1
        where = {"cache": world.cache, "layers": world.layers, "report": world.said.append}
        left = bake_stage(part, lock=lock, store=world.store, state=world.state, **where)  # type: ignore[arg-type]
        place, own = part.place(), lock.of(part.stage)
        with opened(
            left,
            steps=world.state.steps,
            mark="",
            lock=own,
            place=place,
            verb=verb,
            what=what,
            env={},
            **where,  # type: ignore[arg-type]
        ) as sandbox:
            yield sandbox
