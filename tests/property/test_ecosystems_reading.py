"""What ecosystems have, with anything put anywhere: it is read or refused, and nothing else comes of it."""

from __future__ import annotations

import contextlib
import copy
import gzip
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from instar.ecosystems.cargo import ECOSYSTEM as CARGO
from instar.ecosystems.cargo_index import index_line
from instar.ecosystems.go import ECOSYSTEM as GO
from instar.ecosystems.maven_paths import MavenPath
from instar.ecosystems.npm import ECOSYSTEM as NPM
from instar.ecosystems.npm import _without_addresses
from instar.ecosystems.sdist import read_build_system
from instar.ecosystems.sdist_index import files_of
from instar.errors import BakeError, DefinitionError, FetchError, ResolveError
from instar.model.digest import Digest
from instar.model.lock import Artifact
from instar.model.projects import NpmPackages

HASH = "sha512-" + "A" * 86 + "=="
OWN = {"name": "app", "dependencies": {"a": "1"}, "workspaces": [], "optionalDependencies": {}}
ENTRY = {
    "version": "1.0.0",
    "resolved": "https://x.example/a.tgz",
    "integrity": HASH,
    "os": ["linux"],
    "optional": True,
}
LOCK = {
    "lockfileVersion": 3,
    "packages": {"": OWN, "node_modules/a": ENTRY, "node_modules/@b/c": {**ENTRY, "name": "d"}},
}
SUMS = f"example.org/a v1.0.0 h1:{'A' * 43}=\nexample.org/a v1.0.0/go.mod h1:{'A' * 43}=\n"
MOD = "module x\n\nrequire (\n\texample.org/a v1.0.0\n)\nreplace example.org/b => ./b\n"
PAGE = f'<a href="../../a-1.tar.gz#sha256={"a" * 64}" data-yanked="">a-1.tar.gz</a>\n'
JSON_PAGE = {"files": [{"filename": "a-1.tar.gz", "url": "/a-1.tar.gz", "hashes": {"sha256": "a" * 64}}]}
CARGO_LOCK = (
    f'version = 3\n[[package]]\nname = "a"\nversion = "1.0.0"\nsource = "registry+x"\nchecksum = "{"a" * 64}"\n'
)
CARGO_TOML = (
    '[package]\nname = "a"\n[dependencies]\na = {version = "1", package = "a"}\n[target.x.dependencies]\na = "1"\n'
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


def read(ecosystem: Any, use: Any, files: Mapping[str, str]) -> bool:
    """Tell whether the files are read; no other error than one for the author comes of them."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            Path(folder, name).write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            found = ecosystem.read(Path(folder), use, "amd64")
        except DefinitionError as error:
            assert error.problems
            return False
    assert all(".." not in one.name.split("/") and "/" not in one.version for one in found.wanted)
    return True


def slots(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place of a value: what has it, and by which key."""
    for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield node, key
        yield from slots(node[key])


@settings(deadline=None)
@given(st.data())
def test_of_npm(data: st.DataObject) -> None:
    lock, own = copy.deepcopy(LOCK), copy.deepcopy(OWN)
    node, key = data.draw(st.sampled_from([*slots(lock), *slots(own)]))
    node[key] = data.draw(anything)
    if data.draw(st.booleans()) and isinstance(lock.get("packages"), dict):
        lock["packages"][data.draw(st.text(max_size=12)) or "x"] = ENTRY  # type: ignore[index]
    files = {"package.json": json.dumps(own), "package-lock.json": json.dumps(lock)}
    if read(NPM, NpmPackages(source=".", to="/srv"), files):
        json.loads(_without_addresses(files["package-lock.json"].encode()))


def damaged(data: st.DataObject, text: str) -> str:
    at = data.draw(st.integers(0, len(text)))
    cut = data.draw(st.integers(0, 8))
    return text[:at] + data.draw(st.text(max_size=8)) + text[at + cut :]


@settings(deadline=None)
@given(st.data())
def test_of_go(data: st.DataObject) -> None:
    read(GO, ".", {"go.mod": damaged(data, MOD), "go.sum": damaged(data, SUMS)})


@settings(deadline=None)
@given(st.data())
def test_of_cargo(data: st.DataObject) -> None:
    read(CARGO, ".", {"Cargo.toml": damaged(data, CARGO_TOML), "Cargo.lock": damaged(data, CARGO_LOCK)})


@settings(deadline=None)
@given(st.binary(max_size=600))
def test_of_crates(content: bytes) -> None:
    one = Artifact(ecosystem="cargo", name="a", version="1.0.0", hash="sha256:x", sha256=Digest.of(content))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.crate")
        path.write_bytes(content)
        try:
            index_line(path, one)
        except BakeError:
            return
    raise AssertionError("that was no crate")


@settings(deadline=None)
@given(st.text(max_size=80) | st.from_regex(r"[a-z]+(/[a-z.]+){1,3}/[0-9.]{1,4}/[a-z.-]+[0-9.]{1,4}[a-z.-]*"))
def test_of_paths_of_maven(path: str) -> None:
    found = MavenPath.parse(path)
    assert found is None or (str(found) == path and ".." not in path and not path.startswith("/"))


@settings(deadline=None)
@given(st.data())
def test_of_pages_of_an_index(data: st.DataObject) -> None:
    page = damaged(data, data.draw(st.sampled_from([PAGE, json.dumps(JSON_PAGE)])))
    with contextlib.suppress(FetchError):
        for name, url, _ in files_of(page.encode("utf-8", "surrogatepass"), "https://index.example/simple/a/"):
            assert isinstance(name, str) and "#" not in url


@settings(deadline=None)
@given(st.data())
def test_of_source_distributions(data: st.DataObject) -> None:
    manifest = damaged(data, '[build-system]\nrequires = ["a"]\nbuild-backend = "b"\nbackend-path = ["."]\n')
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        content = manifest.encode("utf-8", "surrogatepass")
        info = tarfile.TarInfo("a-1/pyproject.toml")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    packed = bytearray(gzip.compress(buffer.getvalue(), mtime=0))
    for _ in range(data.draw(st.integers(0, 2))):
        packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(ResolveError):
        path = Path(folder, "a-1.tar.gz")
        path.write_bytes(packed)
        found = read_build_system(path, path.name)
        assert all(isinstance(one, str) for one in (*found.requires, *found.backend_path, found.backend))
