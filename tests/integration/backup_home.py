"""A state directory with something of everything that a backup has, and backups of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyrage

from instar.backup.outcomes import Made, Restored
from instar.model.digest import Digest
from instar.model.environment import Keep, Settings
from instar.model.image import Image, ImageConfig
from instar.model.keyed import keyed_digest
from instar.model.progress import silent
from instar.model.release import EnvironmentId
from instar.operations.backup import backup
from instar.operations.restore import restore
from instar.operations.restore_rules import WhichMachine
from instar.operations.secrets import keep_value, make_key
from instar.workspace import MachineWorkspace
from simulated.values import configuration

DEV = EnvironmentId(service="web", name="dev")
EPOCH = 1_700_000_000
KEY = pyrage.x25519.Identity.generate()
OTHER_KEY = pyrage.x25519.Identity.generate()
KILLER = Path(__file__).parents[1] / "acceptance/killer.py"


class Home:
    """A state directory, and the operator's words to it. ``environ``: what is set besides INSTAR_HOME."""

    def __init__(self, path: Path, environ: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.environ = {"INSTAR_HOME": str(path), **(environ or {})}

    def open(self) -> MachineWorkspace:
        """Return what another process works with."""
        return MachineWorkspace(self.environ, silent)

    def back_up(self, file: Path, *, secrets: bool = True) -> Made:
        keys = [str(KEY.to_public())] if secrets else []
        return backup(self.open(), file, keys=keys, key_files=(), secrets=secrets)

    def restore(
        self,
        file: Path,
        *,
        key: pyrage.x25519.Identity = KEY,
        machine: WhichMachine = "same",
        alone: bool = False,
        wants: Callable[[Path, str], bool] = lambda path, text: True,
    ) -> Restored:
        workspace = self.open()
        return restore(workspace, file, lambda: [key], machine=machine, alone=alone, wants_machine_file=wants)

    def files(self) -> dict[str, bytes]:
        """Return what lies in it but the ledger, locks, and what a workspace makes by itself."""
        found = (path for path in self.path.rglob("*") if path.is_file())
        names = {str(path.relative_to(self.path)): path.read_bytes() for path in found}
        apart = ("run/", "ledger/", "store/lock", "id")
        return {name: data for name, data in names.items() if not name.startswith(apart)}

    def command(self, *words: str, killed_at: int | None = None, count: Path | None = None) -> int:
        """Run the command line; return its exit status, negative where it was killed."""
        argv: Sequence[str | Path] = [Path(sys.prefix) / "bin/instar", *words]
        if killed_at is not None:
            assert count is not None
            argv = [sys.executable, "-IB", KILLER, str(killed_at), count, *words]
        environ = {"PATH": os.environ["PATH"], **self.environ}
        return subprocess.run(argv, env=environ, capture_output=True, timeout=120, check=False).returncode


def fill(home: Home) -> Image:
    """Put in an environment with a release that has the traffic, its image, a secret, a recording and more."""
    workspace = home.open()
    workspace.make_state()
    store, ledger = workspace.store, workspace.ledger
    image, unneeded = (add_image(workspace, word) for word in ("needed", "unneeded"))
    store.tag("web", unneeded.digest)
    store.tag("kept", image.digest)
    value = b"swordfish"
    digest = keyed_digest(make_key(workspace.state), value)
    keep_value(workspace.state, digest, value)
    ledger.save_settings(DEV, Settings(listen=("127.0.0.1:8080",), keep=Keep(hot=0, releases=1)))
    configured = configuration()
    object.__setattr__(configured, "secrets", {"TOKEN": digest})
    if ledger.shared:
        ledger.set_machine(DEV, workspace.machine)
    ledger.add_release(DEV, image.digest, configured)
    ledger.set_active(DEV, 1)
    ledger.end_rollout(ledger.begin_rollout(DEV, "deploy", 1), "done", {})
    write(home.path / "recordings/web-dev-1-1.20260101T000000.000000Z.cast", b"what was shown")
    write(home.path / "evidence/web-dev-1-1.json", b"{}")
    write(home.path / "certificates/internal/shop.example/certificate.pem", b"-----BEGIN CERTIFICATE-----")
    write(home.path / "config.yaml", b"{}\n")
    write(home.path / "logs/web-dev-1-1.log", b"no part of a backup")
    workspace.state_id  # noqa: B018  it is made
    ledger.close()
    return image


def add_image(workspace: MachineWorkspace, word: str) -> Image:
    tree = workspace.state.root.with_name(f"tree-{word}")
    tree.mkdir()
    (tree / "file").write_text(word * 1000)
    os.utime(tree / "file", (EPOCH, EPOCH))
    layer = workspace.store.add_layer(tree, step=word, epoch=EPOCH)
    config = ImageConfig(architecture="amd64", user="10001:10001", command=("serve",))
    return workspace.store.add_image(config, [layer], created=EPOCH)


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_bytes(data)


def changed(file: Path, to: Path, change: Callable[[bytearray], object]) -> Path:
    """Return a copy of ``file`` that was changed."""
    data = bytearray(file.read_bytes())
    change(data)
    to.write_bytes(data)
    return to


def image_of(home: Home) -> Digest | None:
    """Return which image the active release has, verified in the store, blob by blob."""
    workspace = home.open()
    state = workspace.ledger.get_environment(DEV)
    assert state.active is not None
    image = workspace.store.image(workspace.ledger.get_release(DEV, state.active).image)
    for layer in image.layers:
        workspace.store.verify(layer.digest)
    workspace.ledger.verify()
    workspace.ledger.close()
    return image.digest
