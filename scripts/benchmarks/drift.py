"""How long it takes to prove that what runs is what was baked."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import peer
from subject import Subject, free_port

from instar.host.filesystems import erofs
from instar.model.image import Layer
from instar.model.progress import silent
from instar.model.release import EnvironmentId, Instance
from instar.operations import drift
from instar.providers.local import record
from instar.providers.local.names import Names
from instar.store import Store
from instar.workspace import MachineWorkspace

PROCESSES, INSTANCES, PROCESSES_EACH = 20, 100, 2
ONE_MS, ALL_S = 15.0, 1.0
OPENSSL_TIMES = 1 / 0.8  # the time that hashing may take, of openssl's

DEFINITION = """\
name: drift
image: {{base: 'debian:bookworm', packages: [busybox-static]}}
service:
  command: [sh, -c, '{children}exec busybox httpd -f -p 8080 -h /etc']
  port: 8080
  health: {{path: /os-release}}
  stop: {{grace: 100ms}}
  limits: {{memory: 32M, pids: 64}}
environments:
  dev: {{listen: '127.0.0.1:{port}', instances: {instances}, drift: {{check: never}}}}
"""


class Checked:
    """An environment that is checked in this process: what starting a command takes is no part of it."""

    def __init__(self, subject: Subject) -> None:
        self._workspace = MachineWorkspace(subject.environ, silent)
        self._place = EnvironmentId(service="drift", name="dev")

    def seconds(self, *, deep: bool = False) -> float:
        """Check once, which must find nothing, and return how long it took."""
        state = self._workspace.ledger.get_environment(self._place)
        began = time.perf_counter()
        report = drift.drift(self._workspace, state, deep=deep)
        seconds = time.perf_counter() - began
        if report.checked.findings or not report.checked.instances:
            raise RuntimeError(f"a clean environment has findings: {report.checked.findings[:3]}")
        return seconds

    def hashing(self) -> Hashing:
        """Return what a deep check hashes."""
        release = self._workspace.ledger.get_release(self._place, self._instance().release)
        layers = self._workspace.store.image(release.image).layers
        return Hashing(
            store=self._workspace.store, blobs=layers, images=[self._workspace.layers.provide(one) for one in layers]
        )

    def root(self) -> Path:
        """Return the root of an instance, as its processes see it."""
        instance = self._instance()
        names = Names(self._workspace.state, self._workspace.state_id).instance(instance.id, instance.serial)
        process = record.find_process(names)
        assert process is not None
        return Path(f"/proc/{process.pid}/root")

    def _instance(self) -> Instance:
        return self._workspace.ledger.instances(self._place)[0]


@dataclass(frozen=True, kw_only=True)
class Hashing:
    """The blobs of an image's layers, and the images of them that are mounted."""

    store: Store
    blobs: Sequence[Layer]
    images: Sequence[Path]

    def ours(self) -> None:
        """Hash all of it on one core, by what a deep check does it with."""
        for layer in self.blobs:
            self.store.verify(layer.digest)
        for image in self.images:
            erofs.digest_of(image)

    def openssl(self) -> None:
        files = [*(self.store.path(layer.digest) for layer in self.blobs), *self.images]
        subprocess.run(["openssl", "dgst", "-sha256", *files], check=True, stdout=subprocess.DEVNULL)


def hash_root(root: Path) -> None:
    """Hash every file of a root file system: what tools do that know files and no layers."""
    command = 'find "$1"/ -xdev -type f -print0 | xargs -0 sha256sum >/dev/null'
    subprocess.run(["sh", "-c", command, "sh", root], check=True)


def container(docker: peer.Docker, root: Path, scratch: Path) -> str:
    """Run a container of the same files; return its id."""
    archive = scratch / "root.tar"
    subprocess.run(["tar", "--one-file-system", "-C", f"{root}/", "-cf", archive, "."], check=True)
    docker.command("import", str(archive), "bench-drift")
    archive.unlink()
    return docker.command("run", "--detach", "bench-drift", "/bin/sleep", "10000")


@contextlib.contextmanager
def deployed(folder: Path, home: Path, *, instances: int, processes: int) -> Iterator[tuple[Subject, Checked]]:
    """Have ``instances`` of so many processes each (its init and its server among them) inside."""
    folder.mkdir()
    port = free_port()
    text = DEFINITION.format(children="sleep 10000 & " * (processes - 2), port=port, instances=instances)
    (folder / "instar.yaml").write_text(text)
    subject = Subject(folder=folder, home=home, port=port)
    try:
        subject.run("deploy", "dev")
        checked = Checked(subject)
        checked.seconds()  # what is hashed once a boot
        yield subject, checked
    finally:
        subject.run("destroy", "drift/dev", "--yes", json_too=False)
