"""Go's modules from a proxy on loopback: locked by go's own hashes, and there for the lines of ``run`` alone."""

from __future__ import annotations

import dataclasses
import io
import platform
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from bake_kit import World, deb, shell_packages
from npm_kit import NpmRegistry, npm_registry

from instar.bake import Baked
from instar.definition import Loaded
from instar.definition.parts import image_of
from instar.ecosystems.go_hashes import hash_of
from instar.errors import FetchError, HashMismatch
from instar.lock.artifacts import lock_artifacts
from instar.model.lock import Artifact
from instar.model.progress import silent

MOD = b"module example.org/Log\n"
SUMS = "example.org/Log v1.2.0 {zip}\nexample.org/Log v1.2.0/go.mod {mod}\n"
LINE = "cat /run/instar/go/example.org/!log/@v/v1.2.0.mod > /srv/mod; echo $GOPROXY $GOCACHE > /srv/environment"


def archive(content: str = "package log\n") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr("example.org/Log@v1.2.0/log.go", content)
        made.writestr("example.org/Log@v1.2.0/go.mod", MOD)
    return buffer.getvalue()


class Go:
    def __init__(self, world: World, proxy: NpmRegistry) -> None:
        self.world, self.proxy = world, proxy
        top = "/example.org/!log/@v/v1.2.0"
        proxy.files |= {f"{top}.zip": archive(), f"{top}.mod": MOD}
        (world.folder / "go.mod").write_text("module example.org/app\nrequire example.org/Log v1.2.0\n")
        (world.folder / "go.sum").write_text(SUMS.format(zip=self.hash("zip"), mod=self.hash("mod")))

    def hash(self, kind: str) -> str:
        path = self.world.path / "file"
        path.write_bytes(self.proxy.files[f"/example.org/!log/@v/v1.2.0.{kind}"])
        return hash_of(path, kind)

    def load(self, line: str = LINE, more: str = "") -> Loaded:
        return self.world.load(f"base: debian:test\npackages: [shell, cat]\ngo: .\nrun: ['{line}']\n{more}")

    def lock(self) -> tuple[Artifact, ...]:
        return lock_artifacts(image_of(self.load()), (), "amd64", self.world.cache, silent)

    def bake(self, loaded: Loaded) -> Baked:
        cat = deb("cat", {"bin/cat": Path("/bin/cat").read_bytes()}, executable=["bin/cat"])
        packages = [*shell_packages(self.world), self.world.package("cat", cat)]
        lock = dataclasses.replace(self.world.lock(packages, bake_format=2), artifacts=self.lock())
        return self.world.bake(loaded, lock)


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Go]:
    world = World(tmp_path / "world")
    with npm_registry(tmp_path) as proxy:
        monkeypatch.setenv("GOPROXY", f"{proxy.address},direct")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("GOPRIVATE", raising=False)
        yield Go(world, proxy)
    world.close()


def test_each_file_is_fetched_once_and_held_against_gos_own_hash(go: Go) -> None:
    assert [one.shown for one in go.lock()] == ["example.org/Log v1.2.0 (mod)", "example.org/Log v1.2.0 (zip)"]
    assert sorted(path for path, _ in go.proxy.asked) == sorted(go.proxy.files)


@pytest.mark.parametrize("other", [archive("package evil\n"), b"no archive"])
def test_other_bytes_are_refused(go: Go, other: bytes) -> None:
    go.proxy.files["/example.org/!log/@v/v1.2.0.zip"] = other
    with pytest.raises(HashMismatch, match=r"cannot use 'example\.org/Log' v1\.2\.0: what '127\.0\.0\.1:\d+' sends"):
        go.lock()


def test_what_no_proxy_has_is_not_taken_from_its_repository(go: Go) -> None:
    del go.proxy.files["/example.org/!log/@v/v1.2.0.zip"]
    with pytest.raises(FetchError, match="answers 404"):
        go.lock()


def test_the_next_proxy_is_asked_for_what_one_has_not(go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with npm_registry(tmp_path) as empty:
        monkeypatch.setenv("GOPROXY", f"{empty.address}/proxy,{go.proxy.address}")
        assert len(go.lock()) == 2
        assert len(empty.asked) == 2


def test_what_is_private_is_asked_of_no_proxy(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOPRIVATE", "example.org")
    with pytest.raises(FetchError, match="takes it from its own repository"):
        go.lock()
    assert not go.proxy.asked


@pytest.mark.root
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the tiny image is for amd64")
def test_the_lines_of_run_can_read_them_and_the_image_has_nothing_of_them(go: Go) -> None:
    baked = go.bake(go.load())
    with go.world.mounted(baked.image) as root:
        assert (root / "srv/mod").read_bytes() == MOD
        assert (root / "srv/environment").read_text() == "file:///run/instar/go /tmp/go/build\n"
        assert not list((root / "run").rglob("*")) + list((root / "tmp").rglob("*"))
    assert all(step.cached for step in go.bake(go.load()).steps)


@pytest.mark.root
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the tiny image is for amd64")
def test_a_line_cannot_change_them_and_the_images_own_environment_goes_first(go: Go) -> None:
    line = "if echo x > /run/instar/go/x; then echo written > /srv/written; fi; echo $GOPROXY > /srv/proxy"
    baked = go.bake(go.load(line, "env: {GOPROXY: mine}\n"))
    with go.world.mounted(baked.image) as root:
        assert not (root / "srv/written").exists()
        assert (root / "srv/proxy").read_text() == "mine\n"


@pytest.mark.root
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the tiny image is for amd64")
def test_another_module_runs_the_lines_anew(go: Go) -> None:
    go.bake(go.load())
    go.proxy.files["/example.org/!log/@v/v1.2.0.zip"] = archive("package other\n")
    (go.world.folder / "go.sum").write_text(SUMS.format(zip=go.hash("zip"), mod=go.hash("mod")))
    again = go.bake(go.load())
    assert [step.cached for step in again.steps] == [True, True, False]
