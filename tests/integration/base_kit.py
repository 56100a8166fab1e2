"""Images that others stand on, as their makers push and write them, and a machine that bakes on them."""

from __future__ import annotations

import http.client
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from bake_kit import EPOCH

from instar.bake import Baked
from instar.definition import Loaded, load
from instar.host.kernel import mounts
from instar.model.digest import Digest
from instar.model.image import Image, ImageConfig
from instar.model.lock import Locked
from instar.model.progress import Progress
from instar.model.reference import Repository
from instar.operations.bake import bake
from instar.operations.base_finder import base_finder
from instar.operations.lock import lock
from instar.store import Store
from instar.store.manifest import INDEX_TYPE, MANIFEST_TYPE
from instar.workspace import MachineWorkspace

SHELL_FILES = ("lib/x86_64-linux-gnu/libc.so.6", "lib64/ld-linux-x86-64.so.2")
DEFINITION = """\
name: {name}
image:
{image}
service: {{command: [/bin/sh]}}
environments: {{dev: {{}}}}
"""


class Machine:
    """One that bakes: a state directory of its own, and a project at ``folder``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path / "project"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.said: list[Progress] = []
        self.workspace = MachineWorkspace({"INSTAR_HOME": str(path / "home")}, self.said.append)

    def write(self, image: str, name: str = "web", folder: str = ".") -> Loaded:
        """Write a definition whose ``image`` section has these lines, and read it."""
        lines = "".join(f"  {line}\n" for line in image.strip("\n").splitlines())
        at = self.folder / folder
        at.mkdir(parents=True, exist_ok=True)
        (at / "instar.yaml").write_text(DEFINITION.format(name=name, image=lines))
        return load(at / "instar.yaml")

    def load(self, file: Path) -> Loaded:
        return load(file)

    def lock(self, loaded: Loaded, update: Any = None) -> Locked:
        cache, find = self.workspace.state.cache, base_finder(self.workspace)
        return lock(loaded, cache=cache, report=self.said.append, update=update, find_base=find)

    def bake(self, loaded: Loaded) -> Baked:
        return bake(self.workspace, loaded)

    def files(self, image: Image) -> Iterator[str]:
        """Yield the paths of an image's files, with what is in each."""
        target, nothing = self.path / "mounted", self.path / "nothing"
        target.mkdir(exist_ok=True)
        nothing.mkdir(exist_ok=True)
        lowers = [self.workspace.layers.mount(layer) for layer in reversed(image.layers)]
        mounts.mount_overlay([*lowers, nothing], target)
        try:
            for path in sorted(target.rglob("*")):
                if path.is_file() and not path.is_symlink() and path.stat().st_size < 200:
                    yield f"/{path.relative_to(target)}: {path.read_text(errors='replace')}"
        finally:
            mounts.unmount(target)

    def close(self) -> None:
        self.workspace.layers.prune([], list)
        mounts.unmount_all(self.path)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "machine")
    yield made
    made.close()


class Vendor:
    """Who makes the images that others stand on, in a store of their own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = Store(path / "store")

    def image(self, *layers: Mapping[str, bytes | str | None], architecture: str = "amd64", **config: Any) -> Image:
        """Make an image of layers that are files by their names; text is where a link leads, None takes away what is
        below."""
        made = [self._layer(f"{number}", files) for number, files in enumerate(layers)]
        settings = ImageConfig(architecture=architecture, user="", command=("/entry",), **config)
        return self.store.add_image(settings, made, created=EPOCH)

    def _layer(self, name: str, files: Mapping[str, bytes | str | None]) -> Any:
        tree = self.path / f"tree-{name}"
        shutil.rmtree(tree, ignore_errors=True)
        for path, content in files.items():
            file = tree / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                os.mknod(file, 0o020000, os.makedev(0, 0))
            elif isinstance(content, str):
                file.symlink_to(content)
            else:
                file.write_bytes(content)
                file.chmod(0o755)
        return self.store.add_layer(tree, step=f"RUN layer {name}", epoch=EPOCH)

    def push(self, image: Image, host: str, *tags: str) -> str:
        """Push an image to ``team/base`` there; return its name by digest."""
        workspace = MachineWorkspace({"INSTAR_HOME": str(self.path / "home")}, lambda progress: None)
        workspace.registries.push(self.store, image.digest, Repository(host=host, path="team/base"), tags=tags)
        return f"{host}/team/base@{image.digest}"

    def archive(self, image: Image, file: Path) -> None:
        self.store.export(image.digest, file)


def shell(**more: bytes) -> dict[str, bytes | None]:
    """Return the files of a layer with this machine's own dash, /bin/sh, in it."""
    found: dict[str, bytes | None] = {"bin/sh": Path("/usr/bin/dash").read_bytes(), **more}
    return found | {name: Path("/usr", name).read_bytes() for name in SHELL_FILES}


def put_manifest(host: str, name: str, data: bytes, kind: str) -> Digest:
    """Put a manifest of any kind to ``team/base`` of a real registry, as it is."""
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.request("PUT", f"/v2/team/base/manifests/{name}", body=data, headers={"Content-Type": kind})
    answer = connection.getresponse()
    assert answer.status == 201, answer.read()
    connection.close()
    return Digest.of(data)


def index_of(*images: tuple[str, Image, int]) -> bytes:
    """Return an index of images, each with its architecture and the size of its manifest."""
    entries = [
        {"mediaType": MANIFEST_TYPE, "digest": image.digest, "size": size_bytes,
         "platform": {"os": "linux", "architecture": architecture}}
        for architecture, image, size_bytes in images
    ]  # fmt: skip
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries}).encode()
