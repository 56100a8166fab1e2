"""go.mod and go.sum: what is read of them, and what is refused with its file, its line and a way on."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from instar.ecosystems.go import ECOSYSTEM as GO
from instar.ecosystems.go import escaped
from instar.ecosystems.go_hashes import hash_of
from instar.ecosystems.go_proxy import Proxies, read_settings
from instar.ecosystems.protocol import Manifest
from instar.errors import BakeError, DefinitionError, FetchError
from instar.fetch.cache import Cache
from instar.model.lock import Artifact
from instar.store.members import Malformed

H = "h1:" + "A" * 43 + "="
OTHER = "h1:" + "B" * 43 + "="
SUMS = f"example.org/Log v1.2.0 {H}\nexample.org/Log v1.2.0/go.mod {H}\nexample.org/old v0.1.0/go.mod {H}\n"
MOD = """\
module example.org/app // example.org/not-this v1.0.0

go 1.19

require example.org/Log v1.2.0 // indirect
require (
\texample.org/replaced v1.0.0
\texample.org/here v1.0.0
)
replace (
\texample.org/here => ./here
\texample.org/replaced v1.0.0 => example.org/old v0.1.0
)
exclude example.org/excluded v1.0.0
"""


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Manifest]:
    def reading(sums: str | None = SUMS, mod: str = MOD) -> Manifest:
        (tmp_path / "app").mkdir(exist_ok=True)
        (tmp_path / "app/go.mod").write_text(mod)
        if sums is not None:
            (tmp_path / "app/go.sum").write_text(sums)
        return GO.read(tmp_path, "app", "amd64")

    return reading


def test_every_file_that_go_sum_names_is_wanted(read: Callable[..., Manifest]) -> None:
    assert [(one.shown, one.place) for one in read().wanted] == [
        ("example.org/Log v1.2.0 (zip)", "app/go.sum:1"),
        ("example.org/Log v1.2.0 (mod)", "app/go.sum:2"),
        ("example.org/old v0.1.0 (mod)", "app/go.sum:3"),
    ]


def test_a_module_that_needs_nothing_needs_no_go_sum(read: Callable[..., Manifest]) -> None:
    assert read(None, "module example.org/app\n").wanted == ()


@pytest.mark.parametrize(
    ("sums", "message"),
    [
        (None, "app/go.sum:1:1: there is no such file"),
        ("", "app/go.mod:5:1: 'example.org/Log v1.2.0' is required here, and has no hash in go.sum"),
        (SUMS.replace("v0.1.0", "v0.2.0"), "'example.org/old v0.1.0' is required here, and has no hash"),
        ("example.org/Log v1.2.0\n", "app/go.sum:1:1: a line has a module, its version and a hash"),
        (f"{SUMS}../../etc v1.0.0 {H}\n", "app/go.sum:4:1: this has not the form of a module's path and version"),
        (f"{SUMS}example.org/../a v1.0.0 {H}\n", "not the form"),
        (f"{SUMS}example.org/.a v1.0.0 {H}\n", "not the form"),
        (f"{SUMS}/etc/a v1.0.0 {H}\n", "not the form"),
        (f"{SUMS}example.org/a ../v1.0.0 {H}\n", "not the form"),
        (f"{SUMS}example.org/a v1.0.0/../../x {H}\n", "not the form"),
        (f"{SUMS}example.org/a v1.0.0 h2:AAAA\n", "'example.org/a v1.0.0' has no hash that is known here"),
        (f"{SUMS}example.org/{'A' * 200} v1.0.0 {H}\n", "not the form"),
        (f"{SUMS}example.org/Log v1.2.0 {OTHER}\n", "app/go.sum:4:1: 'example.org/Log v1.2.0 (zip)' has two hashes"),
        (f"{SUMS}example.org/Log v1.2.0/go.mod {OTHER}\n", "'example.org/Log v1.2.0 (mod)' has two hashes"),
    ],
)
def test_what_does_not_fit_is_refused(read: Callable[..., Manifest], sums: str | None, message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        read(sums)
    assert message in str(caught.value)
    assert caught.value.hint == "go mod tidy writes both anew"


def test_paths_are_escaped_as_proxies_have_them() -> None:
    assert escaped("github.com/Azure/azure-SDK") == "github.com/!azure/azure-!s!d!k"


def test_hashes_are_those_of_go(tmp_path: Path) -> None:
    """Both hashes were made by go 1.26 of the same content."""
    mod, archive = tmp_path / "go.mod", tmp_path / "x.zip"
    mod.write_text("module example.org/x\n\ngo 1.19\n")
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("example.org/x@v1.0.0/x.go", "package x\n")
        made.writestr("example.org/x@v1.0.0/go.mod", mod.read_text())
    assert hash_of(mod, "mod") == "h1:SXYV3i3W2vrfp7Gb54zRmEerckgWr2j+czgBx6yhXHE="
    assert hash_of(archive, "zip") == "h1:soP6S9UF3WVsqRLg3/gJhOavz62Mh9m+ExdE6EYgxmc="


def test_what_is_no_archive_has_no_hash(tmp_path: Path) -> None:
    archive = tmp_path / "x.zip"
    archive.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(Malformed):
        hash_of(archive, "zip")
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("a\nb", "")
    with pytest.raises(Malformed, match="of two lines"):
        hash_of(archive, "zip")


def test_what_is_larger_than_any_module_is_not_read(tmp_path: Path) -> None:
    mod, archive = tmp_path / "go.mod", tmp_path / "x.zip"
    with mod.open("wb") as made:
        made.truncate(1 << 40)
    with pytest.raises(Malformed, match="larger than the 16,777,216 bytes"):
        hash_of(mod, "mod")
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("a", "")
    data = bytearray(archive.read_bytes())
    at = data.index(b"PK\1\2") + 24  # of what the member is said to unfold to
    data[at : at + 4] = (600 << 20).to_bytes(4, "little")
    archive.write_bytes(data)
    with pytest.raises(Malformed, match="more than the 524,288,000 bytes"):
        hash_of(archive, "zip")


def test_two_lock_files_that_mean_different_modules_are_told(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    one, other = (
        Artifact(
            ecosystem="go", name="example.org/x", version="v1.0.0", hash=known, sha256=cache.add([data]), kind="zip"
        )
        for known, data in ((H, b"one"), (OTHER, b"other"))
    )
    (tmp_path / "offered").mkdir()
    with pytest.raises(BakeError, match=r"'example.org/x' v1.0.0: two lock files of go have different hashes of it"):
        GO.lay_out([one, other], cache, tmp_path / "offered")


def test_settings_are_gos_own(tmp_path: Path) -> None:
    (tmp_path / ".config/go").mkdir(parents=True)
    (tmp_path / ".config/go/env").write_text("GOPROXY=https://file.example\nGOFLAGS=-x\nGOPRIVATE=corp.example/*\n")
    environ = {"HOME": str(tmp_path)}
    assert read_settings(environ) == {"GOPROXY": "https://file.example", "GOPRIVATE": "corp.example/*"}
    assert read_settings({**environ, "GOPROXY": "off"})["GOPROXY"] == "off"
    assert read_settings({**environ, "GOENV": "off"}) == {}


def test_a_password_in_the_address_of_a_proxy_goes_to_its_host_alone() -> None:
    proxies = Proxies(
        {"GOPROXY": "https://me:s3cret@one.example/go,https://two.example,direct"}, {"HOME": "/nonexistent"}
    )
    authorise = proxies._downloads._authorise
    assert authorise("https://one.example/go/x") == "Basic bWU6czNjcmV0"
    assert authorise("https://two.example/x") is None
    assert authorise("https://one.example.evil.example/x") is None
    assert proxies._proxies == ["https://one.example/go", "https://two.example", "direct"]


def test_an_address_that_is_none_is_not_shown() -> None:
    with pytest.raises(FetchError, match="cannot read GOPROXY") as caught:
        Proxies({"GOPROXY": "https://me:s3cret@[one.example"}, {"HOME": "/nonexistent"})
    assert "s3cret" not in str(caught.value)
