"""An image of which one layer has changed, to a registry: ``instar push`` beside ``skopeo copy`` of the same store.

Each goes to a registry of its own, Debian's docker-registry, which has the layer that did not change.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests")]

from instar.model.image import ImageConfig  # noqa: E402
from instar.store import Store  # noqa: E402
from registries import RealRegistry, running  # noqa: E402

EPOCH = 1_700_000_000
BASE_BYTES, CHANGED_BYTES = 40 << 20, 1 << 20


def rounds(folder: Path, count: int, stack: ExitStack) -> Iterator[tuple[float, float]]:
    """Yield how many seconds a push took, ours and skopeo's, of the same image."""
    store = Store(folder / "home/store")
    ours, others = (stack.enter_context(running(RealRegistry(folder / name))) for name in ("ours", "others"))
    base = store.add_layer(_tree(folder / "base", BASE_BYTES), step="base", epoch=EPOCH)
    for number in range(count + 1):
        changed = store.add_layer(_tree(folder / f"changed-{number}", CHANGED_BYTES), step="files", epoch=EPOCH)
        config = ImageConfig(architecture="amd64", user="1:1", command=("serve",))
        image = store.add_image(config, [base, changed], created=EPOCH)
        store.tag("shop", image.digest)
        command = [str(ROOT / ".venv/bin/instar"), "push", image.digest, f"{ours.host}/team/shop"]
        skopeo = ["skopeo", "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"]
        words = [*skopeo, f"oci:{store.root}:shop", f"docker://{others.host}/team/shop:latest"]
        own, other = _timed(command, {"INSTAR_HOME": str(folder / "home")}), _timed(words, {"HOME": str(folder)})
        if number:  # the first brings the base
            yield own, other


def _timed(words: list[str], more: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True, env={**os.environ, **more})
    return time.perf_counter() - began


def _tree(folder: Path, size_bytes: int) -> Path:
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(os.urandom(size_bytes))
    return folder
