"""Images to move, and the registries of a test as a command has them."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from instar.cancellation import Cancellation
from instar.model.digest import Digest
from instar.model.image import Image, ImageConfig
from instar.model.machine import RegistrySettings
from instar.model.progress import Progress
from instar.model.reference import Reference, Repository
from instar.registry.registries import Registries
from instar.registry.transport import Patience
from instar.store import Store
from lying_registry import Handler

EPOCH = 1_700_000_000
# impatient with a server that says nothing, and patient enough with a machine that is busy
PATIENCE = Patience(connect_s=20, read_s=20, tries=4, first_pause_s=0.01, longest_pause_s=5)
HASTY = Patience(connect_s=2, read_s=1, tries=2, first_pause_s=0.01, longest_pause_s=1)


def made(store: Store, tmp_path: Path, *contents: bytes, architecture: str = "amd64") -> Image:
    """Return an image of one layer for each of ``contents``."""
    layers = []
    for number, content in enumerate(contents):
        tree = tmp_path / f"tree-{number}-{Digest.of(content).short}"
        tree.mkdir(exist_ok=True)
        (tree / f"file-{number}").write_bytes(content)
        layers.append(store.add_layer(tree, step=f"step {number}", epoch=EPOCH))
    return store.add_image(ImageConfig(architecture=architecture, user="1:1", command=("x",)), layers, created=EPOCH)


def noise(size_bytes: int) -> bytes:
    """Return bytes that no compression makes fewer."""
    return os.urandom(size_bytes)


@contextlib.contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """Give a file system of that size, in memory, which is gone afterwards."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)  # a ledger may be open there


class Door:
    """``registries`` as a command on this machine has them, with all that is ``told`` meanwhile."""

    def __init__(
        self,
        settings: Mapping[str, RegistrySettings] | None = None,
        environ: Mapping[str, str] | None = None,
        patience: Patience = PATIENCE,
    ) -> None:
        self.told: list[Progress] = []
        self.cancellation = Cancellation()
        self.registries = Registries(settings or {}, environ or {}, self.cancellation, self.told.append, patience)

    def warnings(self) -> list[str]:
        return [one.text for one in self.told if one.kind == "warning"]


def at(host: str, image: Image | Digest, path: str = "team/shop") -> Reference:
    digest = image.digest if isinstance(image, Image) else image
    return Reference(repository=Repository(host=host, path=path), digest=digest)


def parts(store: Store) -> list[str]:
    return sorted(path.name for path in (store.root / "partial").iterdir())


def of_blobs(lie: Callable[[Handler, str, bytes], None], *, largest: bool = True) -> Callable[[Handler], bool]:
    """Have GETs of the image's largest blob answered by ``lie``, which is given its digest and its bytes."""

    def told(handler: Handler) -> bool:
        digest = handler.path.rpartition("/")[2]
        data = handler.registry.blobs.get(digest, b"")
        if handler.command != "GET" or "/blobs/" not in handler.path or (largest and len(data) < 1 << 20):
            return False
        lie(handler, digest, data)
        return True

    return told
