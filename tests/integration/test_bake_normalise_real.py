"""What a step leaves → what its layer holds, with real devices, whiteouts and extended attributes."""

from __future__ import annotations

import os
import py_compile
import socket
import stat
import sys
from pathlib import Path

import pytest

from deep_folders import nest
from instar.bake.normalise import Strip, normalise
from instar.errors import BakeError
from instar.host.filesystems import trees

pytestmark = pytest.mark.root
EPOCH = 1_700_000_000


def make(upper: Path, *paths: str) -> None:
    for path in paths:
        (upper / path).parent.mkdir(parents=True, exist_ok=True)
        (upper / path).write_text("x")


def left(upper: Path, strip: Strip) -> set[str]:
    normalise(upper, epoch=EPOCH, strip=strip)
    return {str(path.relative_to(upper)) for path in upper.rglob("*") if not path.is_dir()}


WORLD = ("tmp/a", "run/b/c", "dev/null", "etc/hosts", "etc/passwd-", "var/lib/apt/lists/x", "var/lib/dpkg/status-old",
         "var/cache/ldconfig/aux-cache", "var/cache/apt/archives/x.deb", "etc/machine-id")  # fmt: skip
INSTALLED = ("etc/ssh/ssh_host_rsa_key", "var/lib/mysql/ibdata1", "var/lib/postgresql/15/main/PG_VERSION",
             "var/log/nginx/error.log")  # fmt: skip
KEPT = ("etc/passwd", "var/lib/dpkg/status", "srv/tmp/x", "etc/ssh/sshd_config", "var/lib/postgresql/x", "home/run/x")


@pytest.mark.parametrize(
    ("strip", "expected"),
    [
        (Strip.NOTHING, {*WORLD, *INSTALLED, *KEPT}),
        (Strip.WORLD, {*INSTALLED, *KEPT}),
        (Strip.INSTALLATION, {*KEPT}),
    ],
)
def test_how_much_goes(tmp_path: Path, strip: Strip, expected: set[str]) -> None:
    make(tmp_path, *WORLD, *INSTALLED, *KEPT)
    assert left(tmp_path, strip) == expected
    assert (tmp_path / "var/log/nginx").is_dir()


def test_a_link_among_the_logs_stays(tmp_path: Path) -> None:
    (tmp_path / "var/log").mkdir(parents=True)
    (tmp_path / "var/log/access.log").symlink_to("/dev/stdout")
    assert left(tmp_path, Strip.INSTALLATION) == {"var/log/access.log"}


def test_bytecode_that_is_valid_by_time_goes_and_by_content_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "pycache_prefix", None)  # beside its source, as in an image
    for name, mode in (("time", "TIMESTAMP"), ("checked", "CHECKED_HASH"), ("unchecked", "UNCHECKED_HASH")):
        make(tmp_path, f"{name}/x.py")
        (tmp_path / name / "x.py").write_text("x = 1\n")
        py_compile.compile(
            str(tmp_path / name / "x.py"), invalidation_mode=py_compile.PycInvalidationMode[mode], doraise=True
        )
    make(tmp_path, "odd/short.pyc")
    found = left(tmp_path, Strip.WORLD)
    assert {path.partition("/")[0] for path in found if path.endswith(".pyc")} == {"checked", "unchecked", "odd"}
    assert not (tmp_path / "time/__pycache__").exists()


def test_times_are_whole_seconds_and_at_most_the_epoch(tmp_path: Path) -> None:
    make(tmp_path, "old", "new", "folder/x")
    (tmp_path / "link").symlink_to("old")
    os.utime(tmp_path / "old", ns=(1, 1_000_000_000_123_456_789))
    normalise(tmp_path, epoch=EPOCH, strip=Strip.NOTHING)
    times = {path.name: path.lstat().st_mtime_ns for path in (tmp_path, *tmp_path.rglob("*"))}
    assert times.pop("old") == 1_000_000_000_000_000_000
    assert set(times.values()) == {EPOCH * 10**9}


def test_the_overlays_own_notes_go_and_what_is_removed_stays_so(tmp_path: Path) -> None:
    make(tmp_path, "file", "opaque/x")
    os.setxattr(tmp_path / "file", "trusted.overlay.origin", b"x")
    os.setxattr(tmp_path / "file", "user.mine", b"x")
    os.setxattr(tmp_path / "opaque", "trusted.overlay.opaque", b"y")
    os.mknod(tmp_path / "gone", stat.S_IFCHR, os.makedev(0, 0))
    assert left(tmp_path, Strip.WORLD) == {"file", "opaque/x", "gone"}
    assert os.listxattr(tmp_path / "file") == ["user.mine"]
    assert os.listxattr(tmp_path / "opaque") == ["trusted.overlay.opaque"]


def test_devices_pipes_and_sockets_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, what in (("device", "a device"), ("pipe", "a pipe"), ("socket", "a socket")):
        (tmp_path / name / "srv").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / name / "srv")
        with socket.socket(socket.AF_UNIX) as server:
            if name == "device":
                os.mknod("x", stat.S_IFCHR, os.makedev(1, 3))
            elif name == "pipe":
                os.mkfifo("x")
            else:
                server.bind("x")
        with pytest.raises(BakeError, match=f"cannot store '/srv/x': {what} cannot be part of an image"):
            normalise(tmp_path / name, epoch=EPOCH, strip=Strip.WORLD)


def test_a_tree_that_is_too_deep_is_refused_and_can_be_removed(tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    upper.mkdir()
    nest(upper, 1_200)
    with pytest.raises(BakeError, match="nested more than 256 deep"):
        normalise(upper, epoch=EPOCH, strip=Strip.NOTHING)
    trees.remove(upper)
    assert not upper.exists()
