"""Packages and wheels baked over what somebody else has installed: dpkg's status before and after, and golden layers.

The dpkg of the base is a script here, so that what it leaves is the same on every machine, and so that it can lie.
"""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from bake_kit import deb, wheel
from base_kit import Machine, Vendor, machine, shell

from instar.definition import Loaded
from instar.definition.parts import image_of
from instar.errors import StepFailed
from instar.lock.file import read, write
from instar.lock.fit import requested, requirements_of
from instar.model.lock import Installed, InstalledPackage, Lock, Package, Requested, Suite, Wheel
from instar.operations.bake_check import check_bake

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the golden layers are for amd64"),
]
__all__ = ["machine"]

GOLDEN = {
    "packages": "sha256:450f2b095f2c202dec6b460c54430c5e0204c6120c87fb0f52fcc6ee821141c4",
    "python": "sha256:f5886e06a9398d04eb012fee03c46baec0921c47792807a89dc2afb15e088590",
}
FOR_OTHER_PYTHON = "sha256:fae10583e0d0ee10f2d50d8f72f8d2a181a802fa08e3ef1f43c1f385d55c7cf9"
DPKG = """#!/bin/sh
case "$*" in
*--unpack*)
  for file; do
    case "$file" in *.deb) ;; *) continue ;; esac
    name=${file%.deb}
    printf '\\nPackage: %s\\nStatus: install ok installed\\nArchitecture: amd64\\nVersion: 1\\n' "$name" \\
      >>/var/lib/dpkg/status
    echo "$name" >"/srv/$name"
  done ;;
esac
"""
STATUS = (
    "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9\n\n"
    "Package: python3\nStatus: install ok installed\nArchitecture: amd64\nVersion: 3.11.2-1\n"
)
PYTHON = "#!/bin/sh\nexit 0\n"
INSTALLED = Installed(
    release="debian:bookworm",
    packages=(
        InstalledPackage(name="libc6", version="2.36-9", architecture="amd64"),
        InstalledPackage(name="python3", version="3.11.2-1", architecture="amd64"),
    ),
)


def write_base(machine: Machine, vendor: Vendor, *, dpkg: str = DPKG, status: str = STATUS) -> None:
    files: dict[str, bytes | str | None] = {
        **shell(),
        "usr/bin/dpkg": dpkg.encode(),
        "var/lib/dpkg/status": status.encode(),
        "etc/os-release": b"ID=debian\nVERSION_CODENAME=bookworm\n",
        "srv/base": b"base",
        "usr/bin/python3": PYTHON.encode(),
        "usr/bin/python3.11": PYTHON.encode(),
        "usr/local/bin/python3.12": PYTHON.encode(),
    }
    machine.folder.joinpath("base.tar").unlink(missing_ok=True)
    vendor.archive(vendor.image(files, env={"PATH": "/usr/bin:/bin"}), machine.folder / "base.tar")


def locked(machine: Machine, loaded: Loaded, installed: Installed = INSTALLED, name: str = "new") -> Lock:
    """Lock what an archive of packages would give, without one."""
    data, one = deb(name, {"srv/": None}), wheel("flower", {"flower.py": b"petals = 5\n"})
    cache = machine.workspace.cache
    package = Package(
        name=name, version="1", architecture="amd64", size_bytes=len(data), sha256=cache.add([data]),
        label="Debian", suite="bookworm", path=f"pool/{name}_1_amd64.deb", step="packages", why="asked for",
    )  # fmt: skip
    bare = machine.write("base: {oci: ./base.tar}")
    machine.lock(bare)
    file = machine.folder / "instar.lock"
    before = read(file)
    made = Lock(
        bake_format=before.bake_format, architecture="amd64", base=before.base, installed=installed, id=before.id,
        requested=_requested(loaded),
        suites=(Suite(label="Debian", suite="bookworm", date=1_700_000_000),), packages=(package,),
        python="3.12" if installed.python else "3.11",
        wheels=(Wheel(name="flower", version="1", filename="flower-1-py3-none-any.whl", sha256=cache.add([one]),
            why="asked for"),),
    )  # fmt: skip
    write(file, made)
    loaded.folder.joinpath("instar.yaml").write_text(loaded.text)
    return made


def _requested(loaded: Loaded) -> Requested:
    part = image_of(loaded)
    return requested(part, requirements_of(part))


@pytest.fixture
def vendor(tmp_path: Path) -> Vendor:
    return Vendor(tmp_path / "vendor")


def definition(machine: Machine) -> Loaded:
    (machine.folder / "r.txt").write_text("flower\n")
    return machine.write("base: {oci: ./base.tar}\npackages: [new]\npython: r.txt\nenv: {A: a}")


def test_the_golden_layers_are_the_same_for_ever(machine: Machine, vendor: Vendor) -> None:
    write_base(machine, vendor)
    loaded = definition(machine)
    locked(machine, loaded)
    baked = machine.bake(loaded)
    assert {step.step: step.layer.diff_id for step in baked.steps if step.step in GOLDEN} == GOLDEN
    assert "/srv/new: new\n" in list(machine.files(baked.image)) and baked.image.layers[0].digest in {
        layer.digest for layer in vendor.store.images()[0].layers
    }
    locked(machine, loaded, Installed(
        release=INSTALLED.release, packages=INSTALLED.packages, python="/usr/local/bin/python3.12",
    ))  # fmt: skip
    again = machine.bake(loaded)
    assert {step.step: step.cached for step in again.steps}["packages"]
    files = list(machine.files(again.image))
    assert any(line.startswith("/opt/venv/pyvenv.cfg: home = /usr/local/bin\n") for line in files)
    assert "/opt/venv/lib/python3.12/site-packages/flower.py: petals = 5\n" in files
    assert [step.layer.diff_id for step in again.steps if step.step == "python"] == [FOR_OTHER_PYTHON]
    assert not check_bake(machine.workspace, loaded).differences


@pytest.mark.parametrize(
    ("base", "said"),
    [
        (
            {"status": STATUS.replace("2.36-9", "2.36-8")},
            "has not what the lock says of it: 'libc6' is 2.36-8, and not",
        ),
        ({"status": STATUS + "\nPackage: more\nStatus: install ok unpacked\n"}, "'more' is unpacked"),
        ({"status": STATUS.partition("\n\n")[0]}, "'python3' is not there, and not 3.11.2-1"),
        ({"dpkg": "#!/bin/sh\nexit 0\n"}, "something else than was to be installed: 'new' is not there, and not 1"),
        ({"dpkg": DPKG + "echo >/var/lib/dpkg/status\n"}, "'libc6' is not there"),
        ({"dpkg": DPKG.replace("ok installed", "ok half-configured")}, "'new' is half-configured"),
        ({"dpkg": "#!/bin/sh\necho no; exit 3\n"}, "exit"),
    ],
)
def test_a_base_that_is_not_what_it_says(machine: Machine, vendor: Vendor, base: dict[str, str], said: str) -> None:
    write_base(machine, vendor, **base)
    loaded = definition(machine)
    locked(machine, loaded)
    with pytest.raises(StepFailed) as caught:
        machine.bake(loaded)
    assert said in caught.value.message and caught.value.place is not None
    assert f"{machine.folder}/instar.yaml:4:" in caught.value.place
    assert not machine.workspace.store.tags()
