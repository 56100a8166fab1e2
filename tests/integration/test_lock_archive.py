"""One lock against the archive and the index that this machine is configured for, fetched, and used again offline."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest

from instar.bake.debian.deb import Deb
from instar.definition import load
from instar.fetch.cache import Cache
from instar.fetch.fetch import fetch_all
from instar.lock.file import read, write
from instar.lock.fit import require_fit
from instar.lock.resolve import resolve
from instar.model.control import fields
from instar.model.progress import silent


def test_python_and_a_framework_are_locked_fetched_and_then_need_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "instar.yaml").write_text(
        "name: web\nimage:\n  base: debian:bookworm\n  packages: [python3]\n  python: requirements.txt\n"
        'service: {command: [sleep, "1"]}\nenvironments: {dev: {}}\n'
    )
    (tmp_path / "requirements.txt").write_text("flask>=3,<4\n")
    loaded = load(tmp_path / "instar.yaml")
    cache = Cache(tmp_path / "cache")
    write(tmp_path / "instar.lock", resolve(loaded, cache.root, None, None, silent))
    lock = read(tmp_path / "instar.lock")
    fetch_all(lock, loaded.definition, cache, silent)

    base = {package.name for package in lock.packages if package.step == "base"}
    assert {"bash", "dpkg", "libc6", "perl-base", "usr-is-merged"} <= base
    assert not base & {"apt", "perl", "usrmerge", "python3"}
    assert {"flask", "jinja2", "werkzeug"} <= {wheel.name for wheel in lock.wheels}
    assert lock.python == "3.11"
    assert "://" not in (tmp_path / "instar.lock").read_text()
    for package in lock.packages:
        assert cache.verify(package.sha256).stat().st_size == package.size_bytes

    monkeypatch.setenv("INSTAR_APT_SOURCES", "/nonexistent")
    begun = time.monotonic()
    assert resolve(loaded, cache.root, lock, None, silent) == lock
    require_fit(read(tmp_path / "instar.lock"), loaded)
    fetch_all(lock, loaded.definition, cache, silent)
    assert time.monotonic() - begun < 5


def test_another_platform_is_locked_and_fetched_here(tmp_path: Path) -> None:
    (tmp_path / "instar.yaml").write_text(
        "name: web\nimage:\n  base: debian:bookworm\n  platforms: [linux/amd64, linux/arm64]\n  packages: [python3]\n"
        '  python: requirements.txt\nservice: {command: [sleep, "1"]}\nenvironments: {dev: {}}\n'
    )
    (tmp_path / "requirements.txt").write_text("pyyaml>=6,<7\n")
    loaded = load(tmp_path / "instar.yaml")
    cache = Cache(tmp_path / "cache")
    write(tmp_path / "instar.lock", resolve(loaded, cache.root, None, None, silent))
    lock = read(tmp_path / "instar.lock")
    require_fit(lock, loaded)
    amd, arm = lock.whole
    assert (amd.architecture, arm.architecture) == ("amd64", "arm64")
    assert {"libc6", "dpkg", "python3.11-minimal"} <= {one.name for one in arm.packages}
    assert all(one.path.endswith(("_arm64.deb", "_all.deb")) for one in arm.packages)
    versions = [{one.name: one.version.partition("+b")[0] for one in each.packages} for each in lock.whole]
    assert not {name for name in versions[0].keys() & versions[1] if versions[0][name] != versions[1][name]}
    (wheel,) = arm.wheels
    assert wheel.filename.endswith("aarch64.whl") and wheel.version == amd.wheels[0].version

    few = dataclasses.replace(arm, packages=tuple(one for one in arm.packages if one.name in ("bash", "libc6")))
    fetch_all(few, loaded.definition, cache, silent)
    for package in few.packages:
        control = Deb(cache.verify(package.sha256), package.name).control()["control"]
        assert fields(control)["Architecture"] == "arm64"
