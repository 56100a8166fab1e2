"""One lock against the archive and the index that this machine is configured for, fetched, and used again offline."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from instar.definition import load
from instar.fetch.cache import Cache
from instar.fetch.fetch import fetch_all
from instar.lock.file import read, write
from instar.lock.fit import require_fit
from instar.lock.resolve import resolve
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
