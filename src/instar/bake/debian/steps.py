"""The steps ``base`` and ``packages``: Debian packages from the lock, installed and configured.

``base`` has nothing beneath it that could install: its packages are unpacked here, several at a time, dpkg's database
is written, and dpkg configures them all in the sandbox. ``packages`` stands on a base with a dpkg, which does it all
itself: preinst scripts, diversions, triggers and replaced files are its business.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from instar.bake.debian import bootstrap, dpkg, over
from instar.bake.debian.deb import Deb
from instar.bake.root import Root
from instar.bake.scratch import Room
from instar.model.control import fields
from instar.model.lock import Installed, Package

_ENVIRONMENT = {
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBCONF_NONINTERACTIVE_SEEN": "true",
    "DEBCONF_NOWARNINGS": "yes",
}
_TOLD = re.compile(r"(Unpacking|Setting up|Processing triggers for) (\S+)")

# The words are shell: each package's preinst runs as dpkg would run it, then dpkg configures everything.
_CONFIGURE_BASE = """
exec 2>&1
for package; do
  DPKG_MAINTSCRIPT_NAME=preinst DPKG_MAINTSCRIPT_PACKAGE=${package%:*} DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT=1 \\
  DPKG_MAINTSCRIPT_ARCH=$ARCHITECTURE DPKG_ADMINDIR=/var/lib/dpkg DPKG_ROOT= \\
  "/var/lib/dpkg/info/$package.preinst" install
done
exec dpkg --force-unsafe-io --configure -a
"""
_INSTALL = """
exec 2>&1
cd /tmp/packages
dpkg --force-depends --force-unsafe-io --unpack "$@"
exec dpkg --force-unsafe-io --configure -a
"""
# A comma ends a stage: what stands before it is configured before what comes after it is unpacked.
_INSTALL_IN_STAGES = """
exec 2>&1
cd /tmp/packages
stage=
for file in "$@" ,; do
  if [ "$file" != , ]; then stage="$stage $file"; continue; fi
  dpkg --force-depends --force-unsafe-io --unpack $stage
  dpkg --force-unsafe-io --configure -a
  stage=
done
"""


def bake_base(packages: Sequence[Package], architecture: str, room: Room) -> None:
    """Make the lowest layer of ``packages``. Raises BakeError, StepFailed, FetchError, OSError."""
    room.say(f"unpacking {len(packages)} packages")
    debs = [(package, room.cache.verify(package.sha256)) for package in packages]
    unpacked = bootstrap.unpack(debs, room.upper, architecture)
    with Root(room.upper, epoch=room.epoch) as root:
        dpkg.write_database(root, unpacked, epoch=room.epoch)
    if dpkg.needs_configuration(unpacked):
        found = {one.package.name: one for one in unpacked}
        ordered = dpkg.in_order_of_need({name: fields(one.control["control"]) for name, one in found.items()})
        scripts = [dpkg.info_name(found[name]) for name in ordered if "preinst" in found[name].control]
        _run(room, _CONFIGURE_BASE, scripts, {"ARCHITECTURE": architecture})


def bake_packages(packages: Sequence[Package], room: Room, below: Installed | None = None) -> None:
    """Install ``packages`` on what is beneath, which has those of ``below``, where that was locked.

    Raises BakeError, StepFailed, FetchError, OSError.
    """
    if below is not None:
        over.require_as_locked(below, room)
    room.say(f"unpacking {len(packages)} packages")
    shown = room.upper.parent / "packages"
    shown.mkdir()
    controls = {}
    for package in packages:
        source = room.cache.verify(package.sha256)
        controls[package.name] = fields(Deb(source, package.name).control()["control"])
        _show(source, shown / f"{package.name}.deb")
    stages = [dpkg.in_order_of_need(controls)] if room.bake_format == 1 else dpkg.in_stages(controls)
    files = [name for stage in stages for name in (*(f"{one}.deb" for one in stage), ",")][:-1]
    script = _INSTALL if room.bake_format == 1 else _INSTALL_IN_STAGES
    _run(room, script, files, shown={"/tmp/packages": shown})  # noqa: S108  the sandbox's own
    if below is not None:
        over.require_whole(below, packages, room)


def _run(
    room: Room,
    script: str,
    arguments: Sequence[str],
    env: Mapping[str, str] | None = None,
    shown: Mapping[str, Path] | None = None,
) -> None:
    def say_step(line: str) -> None:
        if match := _TOLD.match(line):
            room.say(f"{match[1].lower()} {match[2]}")

    room.run(
        ["/bin/sh", "-euc", script, "sh", *arguments],
        env={**_ENVIRONMENT, **(env or {})},
        shown=shown,
        on_line=say_step,
    )


def _show(source: Path, target: Path) -> None:
    """Put a cached file where the sandbox can be shown it."""
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)
