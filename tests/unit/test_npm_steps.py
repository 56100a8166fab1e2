"""The step of npm's packages: what its key depends on, for ever, and what it does not."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from test_bake_steps import lock as plain_lock

from instar.bake.explained import explain, remember
from instar.bake.steps import Step, plan_steps
from instar.definition import Loaded, parse
from instar.definition.parts import ImagePart, image_of
from instar.errors import BakeError, DefinitionError, ResolveError
from instar.lock.checked import WrongLock
from instar.lock.parsed import lock_of
from instar.lock.resolve import _freed
from instar.lock.written import dump
from instar.model.digest import Digest
from instar.model.lock import Artifact, Lock

HASH = "sha512-" + base64.b64encode(hashlib.sha512(b"one").digest()).decode()
ONE = Artifact(ecosystem="npm", name="@team/one", version="1.0.0", hash=HASH, sha256=Digest.of(b"one"))
GOLDEN = "f71db6f2dbe272a2158982c143644a0b8e9e416fca76e1691044dab749bf47c8"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    own = {"name": "app", "dependencies": {"@team/one": "1.0.0"}}
    entry = {"version": "1.0.0", "integrity": HASH}
    packages = {"": own, "node_modules/@team/one": entry}
    (tmp_path / "app/package.json").write_text(json.dumps(own))
    (tmp_path / "app/package-lock.json").write_text(json.dumps({"lockfileVersion": 3, "packages": packages}))
    return tmp_path


def load(folder: Path, npm: str = "{from: app, to: /srv/app}", more: str = "") -> Loaded:
    text = (
        f"name: one\nimage:\n  base: debian:bookworm\n  packages: [python3]\n  npm: {npm}\n{more}"
        "service: {command: [x]}\nenvironments: {dev: {}}\n"
    )
    return parse(text, str(folder / "instar.yaml"))


def lock(*artifacts: Artifact) -> Lock:
    return dataclasses.replace(plain_lock(bake_format=2, wheels=(), python=None), artifacts=artifacts)


def image(*given: Any, **more: Any) -> ImagePart:
    return image_of(load(*given, **more))


def step(loaded: Loaded, locked: Lock) -> Step:
    return next(step for step in plan_steps(image_of(loaded), locked) if step.kind == "npm")


def test_its_key_is_the_same_for_ever(folder: Path) -> None:
    steps = plan_steps(image(folder, more="  run: [x]\n"), lock(ONE))
    assert [step.name for step in steps] == ["base", "packages", "npm", "user", "run 1: x"]
    assert step(load(folder), lock(ONE)).key == GOLDEN


def test_its_key_depends_on_what_changes_what_is_installed_and_on_nothing_else(folder: Path) -> None:
    other = dataclasses.replace(ONE, sha256=Digest.of(b"another"))
    unused = dataclasses.replace(ONE, name="unused")
    keys = {
        step(load(folder), lock(ONE)).key,
        step(load(folder), lock(other)).key,
        step(load(folder, "{from: app, to: /srv/other}"), lock(ONE)).key,
        step(load(folder, "{from: app, to: /srv/app, dev: true}"), lock(ONE)).key,
        step(load(folder, more="  env: {PATH: /opt/node/bin}\n"), lock(ONE)).key,
    }
    assert len(keys) == 5
    same = load(folder, "[{from: app, to: /srv/app}]", "  env: {GREETING: hello}\n  files: [{from: app, to: /srv}]\n")
    assert step(same, lock(ONE, unused)).key in keys
    (folder / "app/package.json").write_text((folder / "app/package.json").read_text() + "\n")
    assert step(load(folder), lock(ONE)).key not in keys


def test_why_it_runs_names_what_moved(folder: Path, tmp_path: Path) -> None:
    before, now = lock(ONE), lock(dataclasses.replace(ONE, version="1.1.0", sha256=Digest.of(b"newer")))
    steps = tmp_path / "steps"
    steps.mkdir()
    remember(steps, "one", plan_steps(image(folder), before), before)
    text = (folder / "app/package-lock.json").read_text()
    (folder / "app/package-lock.json").write_text(text.replace('"version": "1.0.0"', '"version": "1.1.0"'))
    told = explain(steps, "one", [(step, False) for step in plan_steps(image(folder), now)], now)
    assert "changed: package-lock.json; new: @team/one 1.1.0; gone: @team/one 1.0.0" in told


def test_a_lock_without_the_file_bakes_nothing(folder: Path) -> None:
    with pytest.raises(BakeError, match=r"'@team/one 1\.0\.0' is not in the lock"):
        plan_steps(image(folder), lock())


def test_two_folders_are_two_steps_and_none_takes_the_others_place(folder: Path) -> None:
    two = "[{from: app, to: /srv/a}, {from: app, to: /srv/b}]"
    names = [step.name for step in plan_steps(image(folder, two), lock(ONE)) if step.kind == "npm"]
    assert names == ["npm 1", "npm 2"]
    with pytest.raises(DefinitionError, match=r"image\.npm\.to: '/srv/a' is that of another, first in line 5"):
        load(folder, two.replace("/srv/b", "/srv/a"))


@pytest.mark.parametrize(
    ("npm", "message"),
    [
        ("{from: app}", "'to' is missing"),
        ("{from: ../app, to: /srv}", "it leads out of the definition's folder"),
        ("{from: app, to: /}", "expected the path of a folder of its own"),
        ("{from: app, to: /run/app}", "'/run' is not a part of the image"),
        ("{from: app, to: /srv, scripts: [bcrypt@5.1.0]}", "write it without its version"),
        ("{from: app, to: /srv, scripts: [../x]}", "expected the name of a package of npm"),
        ("app", "expected a section such as {from: app, to: /srv/app}"),
    ],
)
def test_what_is_no_use_of_npm_is_refused(folder: Path, npm: str, message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        load(folder, npm)
    assert message in str(caught.value)


WRITTEN = dataclasses.replace(lock(ONE), packages=())


def test_what_npm_locks_is_updated_by_npm() -> None:
    with pytest.raises(ResolveError, match="its version is what the lock file of npm says") as caught:
        _freed(WRITTEN, frozenset({"@team/one"}))
    assert caught.value.hint == "change that with npm itself, then: instar lock"


def test_a_lock_has_them_in_version_3_and_is_of_version_2_without() -> None:
    assert json.loads(dump(dataclasses.replace(WRITTEN, artifacts=())))["instar-lock"] == 2
    written = json.loads(dump(WRITTEN))
    assert written["instar-lock"] == 3
    assert lock_of(written) == WRITTEN


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../etc"}, {"name": "a//b"}, {"name": "a/.."}, {"name": "/a"}, {"name": ""}, {"name": "a b"},
        {"version": "../1"}, {"version": ""}, {"hash": "sha512"}, {"hash": "sha512-\n"}, {"sha256": "x"},
        {"ecosystem": "NPM"}, {"kind": "../x"}, {"more": "x"}, {"name": 1},
    ],
)  # fmt: skip
def test_an_entry_of_a_lock_has_the_form_of_one(change: dict[str, object]) -> None:
    written = json.loads(dump(WRITTEN))
    written["artifacts"][0] |= change
    with pytest.raises(WrongLock, match=r"^artifacts, entry 1"):
        lock_of(written)


def test_no_file_is_in_a_lock_twice() -> None:
    written = json.loads(dump(WRITTEN))
    written["artifacts"] *= 2
    with pytest.raises(WrongLock, match="is there twice"):
        lock_of(written)
