"""A state directory of a test's own with an image of busybox in it, and an eye for what is left on the machine."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from instar.host.filesystems.layers import LayerImages
from instar.host.kernel import cgroups, mounts
from instar.host.network.guests import Entries, entries
from instar.host.processes import processes
from instar.model.configuration import Configuration
from instar.model.definition import Health, Service
from instar.model.digest import Digest
from instar.model.image import Image, ImageConfig, Layer
from instar.model.keyed import keyed_digest
from instar.model.release import EnvironmentId, Instance, Release
from instar.model.state import StateDirectory
from instar.process import Process
from instar.providers.base import Observed
from instar.providers.local import LocalRuntime, allocations, record, removal
from instar.providers.local.names import InstanceNames, Names
from instar.store import Store
from instar.store.hashed_files import HashedFiles

BUSYBOX = Path("/bin/busybox")
USER = 10_001
_TOOLS = (
    *("sh", "cat", "dd", "echo", "env", "false", "grep", "head", "httpd", "id", "ip", "kill", "ls", "mkdir"),
    *("mount", "nc", "ps", "sleep", "touch", "true", "unshare", "umount", "wget"),
)


class TinyWorld:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.id = secrets.token_hex(3)
        self.state = StateDirectory(home, home / "run")
        self.store = Store(self.state.store)
        self.layers = LayerImages(self.store, self.state.layers, self.state.mounts, HashedFiles(self.state.sealed))
        self.runtime = self.another_runtime()
        self.image = self.image_of(tiny_tree(home / "tree"))

    def another_runtime(self) -> LocalRuntime:
        """What another command on the same state directory works with."""
        return LocalRuntime(self.state, self.id, self.layers)

    @property
    def entries(self) -> Entries:
        """What the tables say of instances, now."""
        return Entries(entries(f"instar_{self.id}", counted=True))

    def image_of(self, *trees: Path, **config: Any) -> Image:
        layers = [self.layer_of(tree) for tree in trees]
        base = {"architecture": "amd64", "user": f"{USER}:{USER}", "command": ("sh",), "env": {"PATH": "/bin"}}
        return self.store.add_image(ImageConfig(**(base | config)), layers, created=1_700_000_000)

    def layer_of(self, tree: Path) -> Layer:
        return self.store.add_layer(tree, step="base", epoch=1_700_000_000)

    def release(
        self,
        command: Sequence[str],
        *,
        config: Mapping[str, str] | None = None,
        environment: str = "dev",
        **service: Any,
    ) -> Release:
        service.setdefault("health", Health(kind="none"))
        return Release(
            environment=EnvironmentId(service="tiny", name=environment),
            number=1,
            image=self.image.digest,
            configuration=Configuration(service=Service(command=tuple(command), **service), config=config or {}),
            created_at=datetime.now(UTC),
        )

    def instance(self, release: Release, serial: int = 1) -> Instance:
        """Return an instance that is not made, with the address that goes with ``serial``."""
        instance = Instance(
            id=f"{release.environment.service}-{release.environment.name}-{release.number}-{serial}",
            serial=serial,
            environment=release.environment,
            release=release.number,
            created_at=datetime.now(UTC),
        )
        allocations.take_over(Names(self.state, self.id), [(instance, {"address": self.address(instance)})])
        return instance

    def run(self, release: Release, serial: int = 1, image: Image | None = None) -> Instance:
        instance = self.instance(release, serial)
        self.runtime.create(instance, release, image or self.image)
        self.runtime.start(instance)
        return instance

    def keep_secret(self, content: bytes) -> Digest:
        """Keep a secret as a deploy does; return its keyed digest."""
        self.state.secrets.mkdir(mode=0o700, exist_ok=True)
        if not self.state.secret_key.exists():
            self.state.secret_key.write_bytes(bytes(32))
        digest = keyed_digest(self.state.secret_key.read_bytes(), content)
        self.state.secret(digest).write_bytes(content)
        return digest

    def output(self, script: str, **service: Any) -> list[str]:
        """Run a shell script in an instance to its end; return the lines that it printed, whatever the stream."""
        release = self.release(["sh", "-c", script], **service)
        instance = self.run(release)
        self.ended(instance)
        lines = [line.split(" ", 2)[2] for line in self.runtime.log_lines(instance.id)]
        self.destroy(instance, release)
        self.runtime.forget(release.environment, [instance.id], volumes=False)
        return lines

    def destroy(self, instance: Instance, release: Release) -> None:
        """Have an instance destroyed to the end, however long it takes."""
        wait_until(lambda: self.runtime.destroy(instance, release))

    def observe(self, instance: Instance) -> Observed:
        return self.runtime.observe([instance])[0]

    def process(self, instance: Instance) -> Process | None:
        """Return its first process, as long as it lives."""
        found = allocations.process_of(self.names(instance))
        return found if found is not None and processes.lives(found) else None

    def address(self, instance: Instance) -> str:
        return str(self.runtime.network()[10 + instance.serial])

    def names(self, instance: Instance) -> InstanceNames:
        return Names(self.state, self.id).instance(instance.id, instance.serial)

    def ended(self, instance: Instance) -> Observed:
        wait_until(lambda: self.observe(instance).state == "stopped")
        return self.observe(instance)

    def printed(self, instance: Instance, text: str) -> None:
        """Wait until the instance has printed ``text``."""
        wait_until(lambda: any(text in line for line in self.runtime.log_lines(instance.id)))

    def traces(self) -> list[str]:
        """Name all that is on this machine of this state directory's instances."""
        marks = (self.id, str(self.home))
        links = [path.name for path in Path("/sys/class/net").glob(f"iv{self.id}*")]
        networks = [str(path) for path in Path("/run/netns").glob(f"*{self.id}*")]
        rooms = [str(path) for path in Path(f"/run/instar-{self.id}").glob("*")]
        groups = [str(path) for one in cgroups.hierarchies() for path in one.mount.glob(f"*{self.id}*/*")]
        groups = [group for group in groups if Path(group).is_dir() and not group.endswith(("/conmon", "/logs"))]
        shown = [
            line
            for line in Path("/proc/self/mountinfo").read_text(errors="replace").split("\n")
            if any(m in line for m in marks)
        ]
        shown = [line for line in shown if f" {self.state.mounts}/" not in line]
        folders = [str(path) for top in (self.state.instances, self.state.runc) for path in top.glob("*")]
        processes = [line for line in self.processes() if "log_keeper" not in line]  # it ends with the last instance
        return [*links, *networks, *rooms, *groups, *shown, *folders, *processes]

    def processes(self) -> list[str]:
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                words = (path / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
                group = (path / "cgroup").read_text()
                dead = " Z " in (path / "stat").read_text()
            except OSError:
                continue
            if int(path.name) != os.getpid() and not dead and (str(self.home) in words or f"instar-{self.id}" in group):
                found.append(f"process {path.name} {words!r}")
        return found

    def sweep(self) -> None:
        """Remove what a test that failed has left."""
        names = Names(self.state, self.id)
        for name, intent in record.all_intents(names).items():
            removal.remove(names.instance(name, intent.serial if intent else -1))
        for log in self.state.logs.glob("*"):  # not the folder: what keeps full logs watches it
            log.unlink()

    def close(self) -> None:
        """Remove everything, and fail if anything is left."""
        self.another_runtime().clear_orphans(lambda: [])
        left = self.traces() + self.processes() + [str(path) for path in Path("/sys/class/net").glob(f"*{self.id}*")]
        left += [str(path) for one in cgroups.hierarchies() for path in one.mount.glob(f"*{self.id}*")]
        tables = subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, text=True).stdout
        mounts.unmount_all(self.home)
        self.layers.prune((), tuple)
        assert not left
        assert self.id not in tables
        assert not Path(f"/run/instar-{self.id}").exists()


def tiny_tree(tree: Path) -> Path:
    for folder in ("bin", "srv", "var/lib"):
        (tree / folder).mkdir(parents=True)
    shutil.copy(BUSYBOX, tree / "bin/busybox")
    for tool in _TOOLS:
        (tree / "bin" / tool).symlink_to("busybox")
    for folder, _, _ in os.walk(tree):
        Path(folder).chmod(0o755)
    return tree


def wait_until(condition: Callable[[], bool], timeout_s: float = 40.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)
