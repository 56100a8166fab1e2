"""Crates from a registry on loopback: known by Cargo.lock's own checksums, and there for the lines of ``run`` alone."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import platform
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from bake_kit import World, deb, shell_packages
from npm_kit import NpmRegistry, npm_registry

from instar.definition.parts import image_of
from instar.ecosystems.cargo_registry import Crates
from instar.ecosystems.download import Downloads
from instar.ecosystems.fetching import batches
from instar.ecosystems.protocol import WantedFile
from instar.errors import ComponentMissing, FetchError, HashMismatch
from instar.lock.artifacts import lock_artifacts
from instar.model.digest import Digest
from instar.model.lock import Artifact
from instar.model.progress import silent

TOML = b'[package]\nname = "one"\nversion = "1.0.0"\n'
LINE = (
    "cat /run/instar/cargo/index/3/o/one /tmp/cargo/config.toml > /srv/seen;"
    " echo $CARGO_HOME > /srv/home; : > $CARGO_HOME/x"
)


def crate() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("one-1.0.0/Cargo.toml")
        info.size = len(TOML)
        archive.addfile(info, io.BytesIO(TOML))
    return gzip.compress(buffer.getvalue(), mtime=0)


class Cargo:
    def __init__(self, world: World, registry: NpmRegistry, home: Path) -> None:
        self.world, self.registry, self.home = world, registry, home
        self.data = crate()
        registry.files["/index/config.json"] = json.dumps({"dl": f"{registry.address}/files", "api": None}).encode()
        registry.files["/files/one/1.0.0/download"] = self.data
        (world.folder / "Cargo.toml").write_text(
            '[package]\nname = "app"\nversion = "0.1.0"\n[dependencies]\none = "1"\n'
        )
        (world.folder / "Cargo.lock").write_text(
            'version = 3\n[[package]]\nname = "app"\nversion = "0.1.0"\n[[package]]\nname = "one"\nversion = "1.0.0"\n'
            f'source = "registry+https://any.example/index"\nchecksum = "{Digest.of(self.data).hex}"\n'
        )
        (home / ".cargo").mkdir()
        self.settings(
            f'[source.crates-io]\nreplace-with = "own"\n[source.own]\nregistry = "sparse+{registry.address}/index/"\n'
        )

    def settings(self, text: str) -> None:
        (self.home / ".cargo/config.toml").write_text(text)

    def lock(self) -> tuple[Artifact, ...]:
        loaded = self.world.load("base: debian:test\ncargo: .\n")
        return lock_artifacts(image_of(loaded), (), "amd64", self.world.cache, silent)

    def fetch(self) -> None:
        for batch in batches(self.lock(), self.world.cache):
            batch.fetch()


@pytest.fixture
def cargo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cargo]:
    world = World(tmp_path / "world")
    with npm_registry(tmp_path) as registry:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("CARGO_HOME", raising=False)
        yield Cargo(world, registry, tmp_path)
    world.close()


def test_locking_asks_nobody_and_fetching_asks_where_the_index_says(cargo: Cargo) -> None:
    (one,) = cargo.lock()
    assert one.sha256 == Digest.of(cargo.data)
    assert not cargo.registry.asked
    cargo.fetch()
    assert cargo.world.cache.find(one.sha256)
    assert cargo.registry.asked == [("/index/config.json", None), ("/files/one/1.0.0/download", None)]


def test_a_token_goes_to_the_host_of_the_index_alone(cargo: Cargo, tmp_path: Path) -> None:
    (cargo.home / ".cargo/credentials.toml").write_text('[registries.own]\ntoken = "t0k3n"\n')
    with npm_registry(tmp_path) as files:
        files.files["/one-1.0.0.crate"] = cargo.data
        template = f"{files.address}/{{crate}}-{{version}}.crate"
        cargo.registry.files["/index/config.json"] = json.dumps({"dl": template}).encode()
        cargo.fetch()
        assert files.asked == [("/one-1.0.0.crate", None)]
    assert cargo.registry.asked == [("/index/config.json", "t0k3n")]


def test_no_crate_is_asked_for_without_tls_where_its_index_has_that(cargo: Cargo) -> None:
    asked: list[str] = []
    port = cargo.registry.address.rpartition(":")[2]
    downloads = Downloads(configured="", authorise=asked.append)
    crates = Crates(f"http://127.0.0.1:{port}/files", downloads, f"https://127.0.0.1:{port}/index")
    wanted = WantedFile(ecosystem="cargo", name="one", version="1.0.0", hash=f"sha256:{Digest.of(cargo.data).hex}")
    with pytest.raises(FetchError, match="without TLS"):
        crates.bring(wanted, cargo.world.cache, None)
    assert asked == cargo.registry.asked == []


def test_other_bytes_are_refused(cargo: Cargo) -> None:
    cargo.registry.files["/files/one/1.0.0/download"] = b"other"
    with pytest.raises(HashMismatch, match=r"cannot use 'one' 1\.0\.0: what '127\.0\.0\.1:\d+' sends is another file"):
        cargo.fetch()
    assert not cargo.world.cache.sizes()


@pytest.mark.parametrize(
    ("page", "message"),
    [(b"", "answers 404"), (b"[]", "does not say where"), (b'{"dl": 7}', "does not say where"), (b"{", "does not say")],
)
def test_an_index_that_is_none(cargo: Cargo, page: bytes, message: str) -> None:
    cargo.registry.files["/index/config.json"] = page
    with pytest.raises(FetchError, match=message):
        cargo.fetch()


def test_nothing_names_a_registry(cargo: Cargo, monkeypatch: pytest.MonkeyPatch) -> None:
    cargo.settings("")
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ComponentMissing, match="none is configured, and this machine has no cargo"):
        cargo.fetch()
    cargo.settings('[source.crates-io]\nreplace-with = "own"\n[source.own]\nregistry = "sparse+https://[x"\n')
    with pytest.raises(FetchError, match="its address is none"):
        cargo.fetch()
    cargo.settings("= no toml")
    with pytest.raises(FetchError, match="cannot read cargo's settings"):
        cargo.fetch()


@pytest.mark.root
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the tiny image is for amd64")
def test_the_lines_of_run_can_read_them_and_the_image_has_nothing_of_them(cargo: Cargo) -> None:
    cargo.fetch()
    cat = deb("cat", {"bin/cat": Path("/bin/cat").read_bytes()}, executable=["bin/cat"])
    packages = [*shell_packages(cargo.world), cargo.world.package("cat", cat)]
    lock = dataclasses.replace(cargo.world.lock(packages, bake_format=2), artifacts=cargo.lock())
    baked = cargo.world.bake(
        cargo.world.load(f"base: debian:test\npackages: [shell, cat]\ncargo: .\nrun: ['{LINE}']\n"), lock
    )
    with cargo.world.mounted(baked.image) as root:
        seen = (root / "srv/seen").read_text()
        assert json.loads(seen.splitlines()[0])["cksum"] == Digest.of(cargo.data).hex
        assert 'local-registry = "/run/instar/cargo"' in seen
        assert (root / "srv/home").read_text() == "/tmp/cargo\n"
        assert not list((root / "run").rglob("*")) + list((root / "tmp").rglob("*"))
