"""What an image may stand on: how it is written, and how a lock holds it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lock_values import LOCK

from instar.bake.image import environment
from instar.definition import load, parse
from instar.errors import DefinitionError, LockError
from instar.lock.base_image import base_image, left_behind
from instar.lock.changes import changes, differences
from instar.lock.file import read, write
from instar.lock.written import dump
from instar.model.digest import Digest
from instar.model.image import Layer
from instar.model.lock import EARLIEST_EPOCH, BaseImage, Installed, InstalledPackage, Lock, Requested
from instar.operations import lock as locking
from instar.operations.validate import validate
from instar.store.manifest import manifest_json

DIGEST = Digest.of(b"manifest")
LAYER = Layer(digest=Digest.of(b"blob"), diff_id=Digest.of(b"tar"), size_bytes=7)
BASE = BaseImage(
    key=DIGEST, epoch=1_700_000_000, env={"PATH": "/opt/bin", "B": "two\nlines", "A": "a"}, layers=(LAYER, LAYER),
    digest=DIGEST, index=Digest.of(b"index"), platform="linux/amd64",
)  # fmt: skip
ON_OTHERS = Lock(
    bake_format=2, architecture="amd64", requested=Requested(base="oci:a.example/x:1"), suites=(), packages=(),
    id="0" * 32, base=BASE,
)  # fmt: skip


def definition(image: str) -> str:
    return f"name: x\nimage: {image}\nservice: {{command: [/x]}}\n"


@pytest.mark.parametrize(
    ("written", "base"),
    [
        ("scratch", "scratch"),
        ("{oci: 'a.example/x:1'}", "oci:a.example/x:1"),
        (f"{{oci: 'a.example:5000/x/y@{DIGEST}'}}", f"oci:a.example:5000/x/y@{DIGEST}"),
        (f"{{oci: '{DIGEST}'}}", f"oci:{DIGEST}"),
        ("{oci: ./base.tar}", "oci:./base.tar"),
        ("{image: ../base/instar.yaml}", "image:../base/instar.yaml"),
    ],
)
def test_what_can_be_said(written: str, base: str) -> None:
    assert parse(definition(f"{{base: {written}}}"), "x.yaml").definition.image.base == base


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("{base: scrach}", "2:15: image.base: .*; did you mean 'scratch'?"),
        ("{base: 'a.example/x:1'}", "2:15: .*; an image of a registry is written as {oci: 'a.example/x:1'}"),
        ("{base: ../b/instar.yaml}", "2:15: .*; another definition is written as {image: ../b/instar.yaml}"),
        ("{base: {oci: 'debian:12'}}", "2:21: image.base.oci: .*; it begins with the registry's host"),
        ("{base: {oci: a.example/x}}", "2:21: .*; which of its images is not said: 'a.example/x:TAG'"),
        ("{base: {oci: 'a.example/x:1@sha256:aa'}}", "2:21: .*; it has both a tag and a digest"),
        ("{base: {oci: ./../x.tar}}", "2:21: .*; an archive lies in the definition's folder"),
        ("{base: {oci: /x.tar}}", "2:21: .*found '/x.tar'"),
        ("{base: {image: ../b}}", "2:23: .*; did you mean '../b/instar.yaml'?"),
        ("{base: {image: /b/instar.yaml}}", "2:23: .*; it is written from this definition's folder"),
        ("{base: {}}", "2:9: image.base: expected one of 'oci' and 'image', found neither"),
        ("{base: {image: b.yaml, oci: 'a.example/x:1'}}", "2:9: image.base: expected one of .* found both"),
        ("{base: scratch, packages: [curl]}", "2:24: image.packages: .* 'scratch' has nothing that could install"),
        (
            "{base: {oci: ./x.tar}, suites: [x]}",
            "2:31: image.suites: nothing comes from them: .* 'packages' nor 'python'",
        ),
        ("{base: {image: ../b.yaml}, strip: [docs]}", "2:35: image.strip: 'docs': what the base brought stays; .*"),
        ("{base: scratch, strip: [docs]}", "2:24: image.strip: "),
    ],
)
def test_what_cannot(image: str, said: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse(definition(image), "x.yaml")
    begin, dots, middle = said.partition(".*")
    [problem] = caught.value.problems
    assert str(problem).startswith(f"x.yaml:{begin}")
    assert all(part in str(problem) for part in middle.split(".*")) and (dots or said)


def test_a_lock_is_read_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "instar.lock"
    for lock in (ON_OTHERS, dataclasses.replace(ON_OTHERS, base=dataclasses.replace(BASE, index=None))):
        write(path, lock)
        assert read(path) == lock
    text = path.read_text()
    assert text.startswith('{\n  "instar-lock": 3,') and sum("diff-id" in line for line in text.splitlines()) == 2
    scratch = dataclasses.replace(ON_OTHERS, requested=Requested(base="scratch"), base=None)
    write(path, scratch)
    assert read(path) == scratch and scratch.epoch == EARLIEST_EPOCH
    assert dump(LOCK).startswith('{\n  "instar-lock": 2,')  # what an older Instar can read stays as it was


def test_a_lock_says_what_its_base_has_installed(tmp_path: Path) -> None:
    packages = tuple(
        InstalledPackage(name=name, version=version, architecture="amd64")
        for name, version in (("libc6", "2.36-9"), ("zlib1g", "1:1.2.13"))
    )
    path = tmp_path / "instar.lock"
    for python in (None, "/usr/local/bin/python3.12"):
        has = Installed(release="ubuntu:noble", packages=packages, python=python)
        lock = dataclasses.replace(ON_OTHERS, installed=has)
        write(path, lock)
        assert read(path) == lock and (lock.suite, has.versions["zlib1g"]) == ("noble", "1:1.2.13")
    assert '      "libc6 2.36-9 amd64",\n' in path.read_text() and dump(ON_OTHERS).count("installed") == 0
    for change, said in (
        (_set("installed", "release", to="arch:x"), "installed: release: "),
        (_set("installed", "python", to="/a/../python3.1"), "installed: python: "),
        (_set("installed", "packages", 0, to="libc6 2.36-9"), "packages, entry 1: architecture: "),
        (_set("installed", "packages", 0, to="-o 1 amd64"), "packages, entry 1: name: "),
        (_set("installed", "packages", 0, to="zlib1g 1 amd64"), "the installed package 'zlib1g' is there twice"),
        (_set("requested", "base", to="debian:bookworm"), "installed: it is there, and 'debian:bookworm' was"),
    ):
        data = json.loads(dump(lock))
        change(data)
        if "debian" in said:
            del data["base"]
        path.write_text(json.dumps(data))
        with pytest.raises(LockError) as caught:
            read(path)
        assert said in caught.value.message


def _set(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        at: Any = data
        for step in path[:-1]:
            at = at[step]
        if to is None:
            del at[path[-1]]
        else:
            at[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set("base", to=None), "base: there is none, and 'oci:a.example/x:1' was asked for"),
        (_set("requested", "base", to="scratch"), "base: there is one, and 'scratch' was asked for"),
        (_set("requested", "base", to="oci:\n"), "has not the form of one"),
        (_set("base", "digest", to="sha256:1"), "base: digest: 'sha256:1' has not the form of one"),
        (_set("base", "platform", to="windows/amd64"), "base: platform: "),
        (_set("base", "created", to="1999-01-01T00:00:00Z"), "expected no year before 2020"),
        (_set("base", "env", to=["A=a"]), "base: env: expected an object of texts"),
        (_set("base", "env", to={"A": 1}), "base: env: expected an object of texts"),
        (_set("base", "env", to={"A=": "x"}), "base: env: its environment has a variable 'A='"),
        (_set("base", "env", to={"A": "x\0"}), "base: env: its environment has a variable 'A'"),
        (_set("base", "layers", to=[]), "base: expected 1 to 400 layers"),
        (_set("base", "layers", 0, "size", to=-1), "layers, entry 1: size: "),
        (_set("base", "layers", 0, "type", to="text/html"), "layers, entry 1: type: "),
        (_set("base", "layers", 0, "diff-id", to=None), "layers, entry 1: layer: 'diff-id' is missing"),
        (_set("base", "entrypoint", to="x"), "base: unknown key 'entrypoint'"),
        (_set("instar-lock", to=2), "unknown key 'base'"),
    ],
)
def test_a_lock_that_says_something_else(tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str) -> None:
    data = json.loads(dump(ON_OTHERS))
    change(data)
    path = tmp_path / "instar.lock"
    path.write_text(json.dumps(data))
    with pytest.raises(LockError) as caught:
        read(path)
    assert said in caught.value.message


def test_what_moved_is_said() -> None:
    moved = dataclasses.replace(BASE, key=Digest.of(b"2"), digest=Digest.of(b"2"))
    now = dataclasses.replace(ON_OTHERS, base=moved)
    line = f"  base {DIGEST.short} → {Digest.of(b'2').short}"
    assert [str(one) for one in changes(ON_OTHERS, now)] == [line] == list(differences(ON_OTHERS, now))
    other = dataclasses.replace(ON_OTHERS, base=dataclasses.replace(BASE, env={}))
    assert len(differences(ON_OTHERS, other)) == 1 and not differences(ON_OTHERS, ON_OTHERS)


def test_the_environment_goes_over_that_of_the_base() -> None:
    made = parse(definition("{base: {oci: 'a.example/x:1'}, env: {A: mine}}"), "x.yaml").definition.image
    assert environment(made, ON_OTHERS) == {**BASE.env, "A": "mine"}
    bare = dataclasses.replace(ON_OTHERS, base=dataclasses.replace(BASE, env={"PATH": ""}))
    assert environment(made, bare)["PATH"].endswith("/bin")


def test_what_others_stand_on_is_looked_at_by_validate(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    file = tmp_path / "a/instar.yaml"
    file.write_text(definition("{base: {image: ../b.yaml}}"))
    with pytest.raises(DefinitionError, match=r"a/instar.yaml:2:23: cannot read '.*b.yaml': no such file"):
        validate(load(file))
    (tmp_path / "b.yaml").write_text(definition("{base: {image: a/instar.yaml}}").replace("x", "y", 1))
    with pytest.raises(DefinitionError, match=r"b.yaml:2:23: definitions stand on one another in a circle"):
        validate(load(file))
    (tmp_path / "b.yaml").write_text(definition("{base: scratch}").replace("x", "y", 1))
    assert not validate(load(file))


@pytest.mark.parametrize(
    ("base", "said"), [("../gone/instar.yaml", "its folder is not there"), ("./instar.yaml", "in a circle")]
)
def test_nothing_is_locked_over_a_definition_that_cannot_be_stood_on(tmp_path: Path, base: str, said: str) -> None:
    file = tmp_path / "instar.yaml"
    file.write_text(definition(f"{{base: {{image: {base}}}}}"))
    for verb in (locking.lock, locking.check):
        with pytest.raises(DefinitionError, match=said):
            verb(load(file), cache=tmp_path / "cache", report=lambda progress: None)
    assert not (tmp_path / "instar.lock").exists()


def test_what_an_image_says_and_nobody_takes_over_is_said_in_one_line() -> None:
    process = {
        "Entrypoint": ["/entry", "a b"],
        "User": "postgres\n\x1b[1m",
        "WorkingDir": "/",
        "Volumes": {"/data": {}, "/log": {}},
        "ExposedPorts": {"5432/tcp": {}},
        "Cmd": ["x" * 200],
        "Env": ["A=a"],
    }
    text = left_behind(json.dumps({"config": process}).encode())
    assert text.startswith('left to the definition: entrypoint ["/entry", "a b"], command ["xxx')
    assert text.endswith('…, user postgres\ufffd\ufffd[1m, volumes ["/data", "/log"], ports ["5432/tcp"]')
    assert not any(left_behind(one) for one in (b"{}", b'{"config": null}', b'{"config": {"Cmd": []}}', b"[]"))


def test_a_base_of_too_many_layers() -> None:
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [LAYER.diff_id] * 401}}
    data = json.dumps(config).encode()
    manifest = manifest_json(Digest.of(data), len(data), [LAYER] * 401)
    with pytest.raises(ValueError, match="it has 401 layers, more than 400"):
        base_image(manifest, data, None, "amd64")
    with pytest.raises(ValueError, match="it is for linux/amd64, and not for linux/arm64"):
        base_image(manifest, data, None, "arm64")
