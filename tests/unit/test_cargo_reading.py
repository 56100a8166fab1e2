"""Cargo.toml, Cargo.lock and crates: what is read of them, and what is refused with its file, its line and a way on."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from instar.ecosystems.cargo import ECOSYSTEM as CARGO
from instar.ecosystems.cargo_index import index_line, index_path
from instar.ecosystems.protocol import Manifest
from instar.ecosystems.toml import read_toml
from instar.errors import BakeError, DefinitionError
from instar.model.digest import Digest
from instar.model.lock import Artifact

SUM = "ab" * 32
REGISTRY = 'source = "registry+https://any.example/index"'
CRATE = f'[[package]]\nname = "itoa"\nversion = "1.0.5"\n{REGISTRY}\nchecksum = "{SUM}"\n'
LOCK = f'version = 3\n\n[[package]]\nname = "app"\nversion = "0.1.0"\n\n{CRATE}'
TOML = '[package]\nname = "app"\nversion = "0.1.0"\n[dependencies]\nitoa = "1"\n'


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Manifest]:
    def reading(lock: str | None = LOCK, toml: str = TOML) -> Manifest:
        (tmp_path / "app").mkdir(exist_ok=True)
        (tmp_path / "app/Cargo.toml").write_text(toml)
        if lock is not None:
            (tmp_path / "app/Cargo.lock").write_text(lock)
        return CARGO.read(tmp_path, "app", "amd64")

    return reading


def test_what_comes_from_the_registry_is_wanted_and_nothing_else(read: Callable[..., Manifest]) -> None:
    (one,) = read().wanted
    assert (one.shown, one.hash, one.place) == ("itoa 1.0.5", f"sha256:{SUM}", "app/Cargo.lock:8")
    assert one.known_sha256 == Digest.from_hex(SUM)


def test_a_workspace_and_dependencies_by_other_names_and_for_platforms_are_found(read: Callable[..., Manifest]) -> None:
    toml = '[workspace]\nmembers = ["a"]\n[target."cfg(unix)".dependencies]\nfast = {package = "itoa", version = "1"}\n'
    assert len(read(toml=toml).wanted) == 1


@pytest.mark.parametrize(
    ("lock", "toml", "message"),
    [
        (None, TOML, "app/Cargo.lock:1:1: there is no such file"),
        ("version = ", TOML, "app/Cargo.lock:1:1: it is not TOML"),
        ("package = 7", TOML, "its packages cannot be read"),
        (LOCK, TOML + 'either = "1"\n', "app/Cargo.toml:6:1: 'either' is asked for here, and is not in Cargo.lock"),
        (LOCK, TOML.replace('"app"', '"other"'), "'other' is not in Cargo.lock"),
        (LOCK, TOML + '[build-dependencies]\nx = {package = "cc", version = "1"}\n', "'cc' is asked for here"),
        (LOCK.replace("registry+https", "git+https"), TOML, "app/Cargo.lock:8:1: 'itoa' comes from git"),
        (LOCK.replace(f'checksum = "{SUM}"', ""), TOML, "'itoa' 1.0.5 has no checksum"),
        (LOCK.replace(SUM, SUM[1:]), TOML, "'itoa' 1.0.5 has no checksum"),
        (LOCK + CRATE.replace(SUM, "cd" * 32), TOML, "app/Cargo.lock:16:1: 'itoa 1.0.5' has two hashes"),
        (LOCK + "a" + ".a" * 10_000 + " = 1\n", TOML, "a key of more than 32 parts"),
        (LOCK.replace('"1.0.5"', '"../1"'), TOML, "not the form of a crate's name and version"),
        (LOCK + CRATE.replace("itoa", "../etc"), TOML, "not the form of a crate's name and version"),
        (LOCK + CRATE.replace('"itoa"', "7"), TOML, "that can be read"),
        (
            LOCK + CRATE.replace("itoa", "x").replace("any", "other"),
            TOML,
            "'x' is of another registry than others are",
        ),
    ],
)
def test_what_does_not_fit_is_refused(read: Callable[..., Manifest], lock: str | None, toml: str, message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        read(lock, toml)
    assert message in str(caught.value)


def crate(tmp_path: Path, files: dict[str, bytes], data: bytes | None = None) -> tuple[Path, Artifact]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    made = gzip.compress(buffer.getvalue()) if data is None else data
    path = tmp_path / "one.crate"
    path.write_bytes(made)
    sha256 = Digest.of(made)
    return path, Artifact(ecosystem="cargo", name="one", version="1.0.0", hash=f"sha256:{sha256.hex}", sha256=sha256)


def line(tmp_path: Path, toml: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(index_line(*crate(tmp_path, {"one-1.0.0/Cargo.toml": toml.encode()})))
    return found


def test_the_index_says_what_a_crate_needs(tmp_path: Path) -> None:
    toml = """
[package]
name = "one"
version = "1.0.0"
links = "z"
[dependencies.serde]
version = "^1.0"
features = ["derive"]
optional = true
default-features = false
[dependencies]
log = "0.4"
[build-dependencies.other]
version = "2"
package = "cc"
[dev-dependencies]
not-this = "1"
[target."cfg(unix)".dependencies.libc]
version = "0.2"
[features]
default = ["std"]
std = []
with = ["dep:serde"]
"""
    found = line(tmp_path, toml)
    assert (found["name"], found["vers"], found["links"], found["v"]) == ("one", "1.0.0", "z", 2)
    assert found["features"] == {"default": ["std"], "std": []}
    assert found["features2"] == {"with": ["dep:serde"]}
    needed = {one["name"]: one for one in found["deps"]}
    assert set(needed) == {"serde", "log", "other", "libc"}
    assert needed["serde"] == {
        "name": "serde", "req": "^1.0", "features": ["derive"], "optional": True, "default_features": False,
        "target": None, "kind": "normal",
    }  # fmt: skip
    assert (needed["other"]["package"], needed["other"]["kind"]) == ("cc", "build")
    assert needed["libc"]["target"] == "cfg(unix)"


def test_a_crate_lies_where_cargo_looks() -> None:
    assert [index_path(name) for name in ("a", "ab", "abc", "Serde_JSON")] == [
        "1/a",
        "2/ab",
        "3/a/abc",
        "se/rd/serde_json",
    ]


@pytest.mark.parametrize(
    ("files", "data", "message"),
    [
        ({}, b"no archive", "not gzip"),
        ({}, gzip.compress(b"x" * 2000), "cannot use the crate 'one' 1.0.0"),
        ({"other-1.0.0/Cargo.toml": b""}, None, "there is no Cargo.toml in it"),
        ({"one-1.0.0/Cargo.toml": b"= 7"}, None, "cannot use the crate 'one' 1.0.0"),
        ({"one-1.0.0/Cargo.toml": b"\xff"}, None, "cannot use the crate 'one' 1.0.0"),
        ({"one-1.0.0/Cargo.toml": b'package = "one"'}, None, "its 'package' cannot be read"),
        ({"one-1.0.0/Cargo.toml": b'[package]\nname = "two"\nversion = "1.0.0"'}, None, "inside is 'two 1.0.0'"),
        (
            {"one-1.0.0/Cargo.toml": b'features = {a = 1}\n[package]\nname = "one"\nversion = "1.0.0"'},
            None,
            "its features cannot be read",
        ),
        *(
            ({"one-1.0.0/Cargo.toml": b'[package]\nname = "one"\nversion = "1.0.0"\n' + text}, None, message)
            for text, message in (
                (b"links = 1979-05-27\n", "cannot use the crate 'one' 1.0.0"),
                (b"[dependencies]\nx = {version = 07:32:00}\n", "cannot use the crate 'one' 1.0.0"),
                (b"links = nan\n", "cannot use the crate 'one' 1.0.0"),
                (b"[dependencies]\nx.version" + b".a" * 900 + b" = 1\n", "a key of more than 32 parts"),
                (b"[a" + b' . "a"' * 400_000 + b"]\n", "cannot use the crate 'one' 1.0.0"),
                (b"['a'" + b".a" * 50_000 + b"]\n", "a key of more than 32 parts"),
                (b"[dependencies]\nx = {version = " + b"[" * 900 + b"]" * 900 + b"}\n", "cannot use the crate"),
            )
        ),
        ({"one-1.0.0/Cargo.toml": b"#" * (5 << 20)}, None, "too large to be one"),
    ],
)
def test_what_is_no_crate_is_refused(tmp_path: Path, files: dict[str, bytes], data: bytes | None, message: str) -> None:
    with pytest.raises(BakeError) as caught:
        index_line(*crate(tmp_path, files, data))
    assert message in caught.value.message


def test_what_a_person_writes_is_no_long_key() -> None:
    lines = ("a.b.c = 1", f"d = '{'x.' * 20}'", f'e = "1.2.3" # {"and so on ... " * 50}', f"f = '{'y' * 200_000}'")
    assert set(read_toml("\n".join(lines))) == {"a", "d", "e", "f"}
