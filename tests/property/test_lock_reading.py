from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from instar.errors import LockError
from instar.lock.file import read
from instar.lock.written import dump
from instar.model.digest import Digest
from instar.model.lock import ASKED, ESSENTIAL, Artifact, Lock, Package, Requested, Suite, Wheel, needed_by

digests = st.binary(max_size=8).map(Digest.of)
words = st.from_regex(r"[a-z0-9][a-z0-9+.-]{0,12}", fullmatch=True)
versions = st.from_regex(r"[0-9][0-9A-Za-z.+:~-]{0,12}", fullmatch=True)
lines = st.text(
    st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=["Cs", "Cc"]), max_size=30
)
suites = st.from_regex(r"[a-z][a-z-]{0,12}", fullmatch=True)
packages = st.builds(
    Package,
    name=words,
    version=versions,
    architecture=st.sampled_from(["amd64", "all"]),
    size_bytes=st.integers(0, 1 << 40),
    sha256=digests,
    label=lines,
    suite=suites,
    path=words.map(lambda name: f"pool/{name}_1.deb"),
    step=st.sampled_from(["base", "packages"]),
    why=st.none() | st.sampled_from([ESSENTIAL, ASKED]) | words.map(needed_by),
)
wheels = st.builds(
    Wheel,
    name=st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True),
    version=st.from_regex(r"[0-9][0-9a-z.!+]{0,8}", fullmatch=True),
    filename=st.from_regex(r"[a-z]{1,8}-[0-9.]{1,4}-py3-none-any\.whl", fullmatch=True),
    sha256=digests,
    why=st.sampled_from([None, ASKED, needed_by("x")]),
)
artifacts = st.builds(
    Artifact,
    ecosystem=st.sampled_from(["npm", "go", "cargo"]),
    name=st.from_regex(r"(@[a-z]{1,5}/)?[A-Za-z0-9_][A-Za-z0-9_-]{0,8}(/[a-z]{1,5})?", fullmatch=True),
    version=st.from_regex(r"v?[0-9]{1,3}(\.[0-9]{1,3}){2}(-[a-z0-9.]{1,8})?", fullmatch=True),
    hash=st.from_regex(r"(sha512-|h1:|sha256:)[A-Za-z0-9+/=]{8,40}", fullmatch=True),
    sha256=digests,
    kind=st.sampled_from(["", "", "mod", "zip"]),
)


def _of_its_architecture(lock: Lock) -> Lock:
    own = (
        one if one.architecture == "all" else dataclasses.replace(one, architecture=lock.architecture)
        for one in lock.packages
    )
    return dataclasses.replace(lock, packages=tuple(own))


parts = st.builds(
    Lock,
    bake_format=st.sampled_from([1, 2]),
    architecture=st.sampled_from(["amd64", "arm64"]),
    requested=st.builds(
        Requested,
        base=suites.map("debian:{}".format),
        packages=st.lists(words, max_size=3).map(tuple),
        requirements=st.lists(lines, max_size=3).map(tuple),
    ),
    suites=st.lists(st.builds(Suite, label=lines, suite=suites, date=st.integers(0, 4_000_000_000)), max_size=3).map(
        tuple
    ),
    packages=st.lists(packages, max_size=5, unique_by=lambda one: one.name).map(
        lambda found: tuple(sorted(found, key=lambda one: (one.step, one.name)))
    ),
    python=st.just("3.11"),
    wheels=st.lists(wheels, max_size=5, unique_by=lambda one: one.name).map(
        lambda found: tuple(sorted(found, key=lambda one: one.name))
    ),
    artifacts=st.lists(artifacts, max_size=3, unique_by=lambda one: one.order).map(
        lambda found: tuple(sorted(found, key=lambda one: one.order))
    ),
    id=st.none() | st.binary(min_size=16, max_size=16).map(bytes.hex),
).map(_of_its_architecture)


def _with_stages(lock: Lock, stages: dict[str, Lock]) -> Lock:
    whole = {"bake_format": lock.bake_format, "architecture": lock.architecture, "id": None}
    return dataclasses.replace(
        lock, build={name: _of_its_architecture(dataclasses.replace(one, **whole)) for name, one in stages.items()}
    )


locks = parts | st.builds(
    _with_stages, parts, st.dictionaries(st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True), parts, max_size=2)
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


def read_text(text: str) -> Lock:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "instar.lock")
        path.write_text(text, "utf-8", newline="")
        return read(path)


@settings(deadline=None)
@given(locks)
def test_any_lock_is_read_as_it_was_written(lock: Lock) -> None:
    assert read_text(dump(lock)) == lock


@settings(deadline=None)
@given(locks, st.data())
def test_a_lock_with_anything_put_anywhere_is_read_or_refused_and_nothing_else(lock: Lock, data: st.DataObject) -> None:
    tree = json.loads(dump(lock))
    node, key = data.draw(st.sampled_from(list(_slots(tree))))
    node[key] = data.draw(anything)
    text = json.dumps(tree)
    try:
        found = read_text(text)
    except LockError:
        return
    assert read_text(dump(found)) == found


def _slots(tree: Any) -> list[tuple[Any, Any]]:
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree))) if isinstance(tree, list) else []
    return [(tree, key) for key in keys] + [slot for key in keys for slot in _slots(tree[key])]
