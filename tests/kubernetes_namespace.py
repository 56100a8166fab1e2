"""A namespace of a test's own in the cluster of this machine (scripts/cluster), and a state directory for it."""

from __future__ import annotations

import os
import platform
import secrets
import shutil
from pathlib import Path

from tiny_world import BUSYBOX, tiny_tree

from instar.model.image import Image, ImageConfig
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.kinds import NAMESPACE
from instar.providers.kubernetes.kubeconfig import find_config
from instar.store import Store

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


class Namespace:
    """``name`` is also its host's behind the gateway: NAME.cluster.test."""

    def __init__(self, home: Path) -> None:
        from clusters.layout import layout

        found = layout()
        self.name = f"test-instar-{secrets.token_hex(4)}"
        self.registry = found.registry
        self.gateway = f"http://{found.control.address}:8080"
        machine = home / "config.yaml"
        machine.write_text(f"registries: {{'{found.registry}': {{http: true}}}}\n")
        self.environ = {
            "INSTAR_HOME": str(home),
            "KUBECONFIG": str(found.kubeconfig),
            "HOME": str(home),
            "PATH": os.environ["PATH"],
        }
        self.api = Api(find_config(None, self.environ), self.environ)
        self.api.create(NAMESPACE, None, {"metadata": {"name": self.name, "labels": {"test": "yes"}}})

    def close(self) -> None:
        self.api.delete(NAMESPACE, "", self.name)


def image_without_shell(folder: Path) -> Image:
    """Put an image into the store there that has nothing but httpd: a BusyBox of one name."""
    tree = folder / "without"
    (tree / "bin").mkdir(parents=True)
    shutil.copy(BUSYBOX, tree / "bin/httpd")
    (tree / "srv").mkdir()
    (tree / "srv/index.html").write_text("hello\n")
    store = Store(folder / "store")
    layer = store.add_layer(tree, step="base", epoch=1_700_000_000)
    made = ImageConfig(architecture=ARCHITECTURE, user="10001:10001", command=("/bin/httpd",), env={"PATH": "/bin"})
    return store.add_image(made, [layer], created=1_700_000_000)


def tiny_image(store: Store, folder: Path, architecture: str = ARCHITECTURE) -> Image:
    """Put an image of busybox into a store, one that says that it is for an ``architecture``."""
    tree = tiny_tree(folder / "tree")
    for tool in ("find", "stat", "stty", "tr"):
        (tree / "bin" / tool).symlink_to("busybox")
    layer = store.add_layer(tree, step="base", epoch=1_700_000_000)
    made = ImageConfig(architecture=architecture, user="10001:10001", command=("sh",), env={"PATH": "/bin"})
    return store.add_image(made, [layer], created=1_700_000_000)
