"""Lock files of npm, Go and Cargo with anything put anywhere are read or refused, and nothing else comes of them."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from instar.ecosystems.cargo import ECOSYSTEM as CARGO
from instar.ecosystems.cargo_index import index_line
from instar.ecosystems.go import ECOSYSTEM as GO
from instar.ecosystems.npm import ECOSYSTEM as NPM
from instar.ecosystems.npm import _without_addresses
from instar.errors import BakeError, DefinitionError
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
