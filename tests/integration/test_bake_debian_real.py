"""Real Debian packages and real wheels, baked twice under different conditions: the same digest, and it works.

What is locked and fetched is kept in the user's cache (instar-tests), so that the network is needed only once.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bake_kit import World

from instar.bake import Baked
from instar.definition import Loaded
from instar.fetch.cache import Cache
from instar.fetch.fetch import fetch_all
from instar.lock.file import read, write
from instar.lock.fit import require_fit
from instar.lock.resolve import resolve
from instar.model.lock import Lock
from instar.model.progress import silent

pytestmark = pytest.mark.root

IMAGE = """
base: debian:bookworm
packages: [python3, redis-server]
python: requirements.txt
files: [{from: app, to: /srv/app}]
run:
  - python -m compileall -q --invalidation-mode unchecked-hash /srv/app
  - cd /srv/app && python -c 'import click, main; print(click.__name__, main.answer)' > /srv/said
  - redis-server --version && id redis && test "$(stat -c %U /var/lib/redis)" = redis
user: www
"""
KEPT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "instar-tests"


def prepared(path: Path, names: tuple[str, ...]) -> tuple[World, Loaded, Lock]:
    world = World(path)
    world.cache = Cache(KEPT)
    for name in names:
        (world.folder / "app" / name).parent.mkdir(parents=True, exist_ok=True)
        (world.folder / "app" / name).write_text("answer = 42\n")
    (world.folder / "requirements.txt").write_text("click==8.1.7\n")
    loaded = world.load(IMAGE)
    lock = locked(loaded)
    fetch_all(lock, loaded.definition, world.cache, silent)
    return world, loaded, lock


def locked(loaded: Loaded) -> Lock:
    KEPT.mkdir(parents=True, exist_ok=True)
    path = KEPT / "bake-debian.lock"
    if not path.exists():
        write(path, resolve(loaded, KEPT, None, None, silent))
    lock = read(path)
    require_fit(lock, loaded)
    return lock


@contextmanager
def elsewhere() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Pacific/Kiritimati")
        patch.setenv("LC_ALL", "C")
        patch.setattr(os, "cpu_count", lambda: 1)
        time.tzset()
        umask = os.umask(0o077)
        yield
        os.umask(umask)
    time.tzset()


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Baked, Baked]]:
    path = tmp_path_factory.mktemp("bake")
    world, loaded, lock = prepared(path / "one", ("main.py", "other/deep.py"))
    first = world.bake(loaded, lock)
    with elsewhere():
        other, loaded, lock = prepared(path / "another, much longer name", ("other/deep.py", "main.py"))
        second = other.bake(loaded, lock)
        other.close()
    yield world, first, second
    world.close()


def test_the_same_input_gives_the_same_digest(twice: tuple[World, Baked, Baked]) -> None:
    _, first, second = twice
    layers = {step.step: step.layer.diff_id for step in first.steps}
    assert layers == {step.step: step.layer.diff_id for step in second.steps}
    assert first.image == second.image


def test_packages_are_installed_as_dpkg_installs_them(twice: tuple[World, Baked, Baked]) -> None:
    world, first, _ = twice
    with world.mounted(first.image) as root:
        status = (root / "var/lib/dpkg/status").read_text()
        states = set(re.findall(r"^Status: (.*)$", status, re.MULTILINE))
        assert states == {"install ok installed"}
        assert "Package: redis-server\n" in status
        assert (root / "bin/sh").resolve().name == "dash"
        assert (root / "etc/ld.so.cache").exists()
        assert (root / "srv/said").read_text() == "click 42\n"
        assert "www:x:10001:10001:" in (root / "etc/passwd").read_text()


def test_nothing_of_the_moment_or_the_machine_is_in_it(twice: tuple[World, Baked, Baked]) -> None:
    world, first, _ = twice
    with world.mounted(first.image) as root:
        for gone in ("etc/resolv.conf", "etc/hosts", "etc/hostname", "etc/machine-id", "etc/passwd-",
                     "var/cache/ldconfig/aux-cache", "usr/sbin/policy-rc.d"):  # fmt: skip
            assert not os.path.lexists(root / gone), gone
        for empty in ("tmp", "run", "dev", "proc", "var/lib/apt/lists"):
            assert not (root / empty).exists() or not list((root / empty).iterdir()), empty
        files = [path for path in root.rglob("*") if not path.is_symlink()]
        assert max(path.stat().st_mtime for path in files) <= first.image.created
        assert not [path for path in (root / "var/log").rglob("*") if path.is_file()]
        compiled = [path for path in files if path.suffix == ".pyc"]
        assert len(compiled) > 300
        assert all(path.read_bytes()[4] & 1 for path in compiled)
