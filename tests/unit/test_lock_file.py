from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lock_values import LOCK, package, wheel

from instar.errors import LockError, LockMissing
from instar.lock.file import read, write
from instar.lock.written import dump
from instar.model.digest import Digest
from instar.model.lock import ASKED, ESSENTIAL, Lock, SourceBuild, needed_by, parent

OLD = Path(__file__).with_name("lock-version-1.json")


def test_what_is_written_is_read_again_whatever_the_order(tmp_path: Path) -> None:
    path = tmp_path / "instar.lock"
    write(path, dataclasses.replace(LOCK, packages=LOCK.packages[::-1], wheels=LOCK.wheels[::-1]))
    assert read(path) == LOCK
    assert read(path).epoch == 1_700_000_000
    assert path.stat().st_mode & 0o777 == 0o644
    assert [one.name for one in tmp_path.iterdir()] == ["instar.lock"]


def test_a_package_is_a_line_so_that_a_diff_shows_what_moved() -> None:
    old = dump(LOCK).splitlines()
    new = dump(dataclasses.replace(LOCK, packages=(*LOCK.packages, package("nginx")))).splitlines()
    assert len(new) == len(old) + 1
    (line,) = [line for line in new if line not in old]
    assert json.loads(line.strip().rstrip(",")) == {
        "name": "nginx",
        "version": "1.0",
        "architecture": "amd64",
        "size": 1234,
        "sha256": package("nginx").sha256.hex,
        "label": "Debian",
        "suite": "bookworm",
        "path": "pool/main/n/nginx/nginx_1.0_amd64.deb",
        "step": "packages",
    }
    assert dump(LOCK).endswith("}\n")


def test_why_an_entry_is_there_and_whose_lock_it_is_stand_in_it(tmp_path: Path) -> None:
    packages = [
        dataclasses.replace(package("bash", step="base"), why=ESSENTIAL),
        dataclasses.replace(package("curl"), why=ASKED),
        dataclasses.replace(package("libcurl4"), why=needed_by("curl")),
    ]
    lock = dataclasses.replace(
        LOCK,
        id="0123456789abcdef" * 2,
        packages=tuple(packages),
        wheels=(dataclasses.replace(LOCK.wheels[0], why=ASKED),),
    )
    path = tmp_path / "instar.lock"
    write(path, lock)
    assert read(path) == lock
    data = json.loads(path.read_text())
    assert list(data)[:3] == ["instar-lock", "bake-format", "id"]
    assert data["instar-lock"] == 2
    assert [one["why"] for one in data["packages"]] == ["essential", "asked for", "needed by curl"]
    assert [parent(one.why or "") for one in lock.packages] == [None, None, "curl"]


def test_a_lock_of_version_1_is_read_as_it_was_and_written_in_the_newest() -> None:
    """As the Instar of before wrote it: to the byte."""
    lock = read(OLD)
    assert lock == dataclasses.replace(LOCK, architecture="amd64")
    assert json.loads(dump(lock)) == {**json.loads(OLD.read_text()), "instar-lock": 2}


def test_an_empty_lock_is_one_too(tmp_path: Path) -> None:
    path = tmp_path / "instar.lock"
    empty = dataclasses.replace(LOCK, packages=(), wheels=(), suites=(), python=None)
    write(path, empty)
    assert read(path) == empty


def test_a_lock_that_did_not_move_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "instar.lock"
    write(path, LOCK)
    before = path.stat()
    write(path, LOCK)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.root
def test_under_sudo_the_lock_belongs_to_the_folders_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(tmp_path, 4321, 1234)
    monkeypatch.setenv("SUDO_UID", "4321")
    write(tmp_path / "instar.lock", LOCK)
    found = (tmp_path / "instar.lock").stat()
    assert (found.st_uid, found.st_gid) == (4321, 1234)


def test_a_lock_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "instar.lock"
    path.mkdir()
    with pytest.raises(LockError, match=r"cannot write '.*instar\.lock'"):
        write(path, LOCK)
    assert [one.name for one in tmp_path.iterdir()] == ["instar.lock"]


def test_no_lock_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(LockMissing, match="there is no lock"):
        read(tmp_path / "instar.lock")


def test_broken_json_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "instar.lock"
    path.write_text(dump(LOCK).replace('"suites": [', '"suites": [<<<<<<< ours'))
    line = dump(LOCK).splitlines().index('  "suites": [') + 1
    with pytest.raises(LockError, match=rf"instar\.lock': line {line}: it is not JSON"):
        read(path)


def changed(change: Callable[[dict[str, Any]], None]) -> str:
    data = json.loads(dump(LOCK))
    change(data)
    return json.dumps(data)


def first(change: Callable[[dict[str, Any]], None]) -> str:
    """A lock of version 1, changed."""

    def older(data: dict[str, Any]) -> None:
        data["instar-lock"] = 1
        change(data)

    return changed(older)


def in_package(key: str, value: Any) -> str:
    return changed(lambda data: data["packages"][1].__setitem__(key, value))


def in_wheel(key: str, value: Any) -> str:
    return changed(lambda data: data["wheels"][0].__setitem__(key, value))


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("[]", "it is not a lock"),
        ("{}", "it is not a lock"),
        ("[" * 100_000, "nested too deeply"),
        ('{"instar-lock": 1, "instar-lock": 1}', "'instar-lock' is there twice"),
        (changed(lambda data: data.__setitem__("instar-lock", 4)), "made by a newer Instar"),
        (changed(lambda data: data.__setitem__("instar-lock", "1")), "unknown version '1'"),
        (changed(lambda data: data.__setitem__("instar-lock", True)), "unknown version True"),
        (changed(lambda data: data.__setitem__("instar-lock", 2.0)), "unknown version 2.0"),
        (changed(lambda data: data.__setitem__("bake-format", 1.0)), "cannot bake format 1.0"),
        ('{"instar-lock": ' + "9" * 5000 + "}", "a number has 5,000 digits"),
        ('{"instar-lock": NaN}', "NaN is no number"),
        ('{"instar-lock": 1e999}', "unknown version inf"),
        (changed(lambda data: data.__setitem__("id", "f" * 31)), "id: 'fff"),
        (changed(lambda data: data.__setitem__("id", 7)), "id: expected text, found 7"),
        (first(lambda data: data.__setitem__("id", "f" * 32)), "unknown key 'id'"),
        (first(lambda data: data["packages"][0].__setitem__("why", "essential")), "unknown key 'why'"),
        (in_package("why", "needed by -x"), "why: 'needed by -x'"),
        (in_package("why", None), "why: expected text, found None"),
        (in_wheel("why", "essential"), "why: 'essential'"),
        (in_package("label", "\ud800"), "label: '\\ud800'"),
        (in_package("name", "\x1b[2J"), "packages, entry 2: name: '\\x1b[2J'"),
        (changed(lambda data: data.__setitem__("bake-format", 3)), "newer Instar: this one cannot bake format 3"),
        (changed(lambda data: data.__setitem__("bake-format", 0)), "cannot bake format 0, only 1, 2"),
        (changed(lambda data: data.__setitem__("more", 1)), "unknown key 'more'"),
        (changed(lambda data: data.__delitem__("suites")), "'suites' is missing"),
        (changed(lambda data: data.__setitem__("packages", {})), "packages: expected a list"),
        (changed(lambda data: data["packages"].append(data["packages"][0])), "the package 'bash' is there twice"),
        (changed(lambda data: data["wheels"].append(data["wheels"][0])), "the wheel 'flask' is there twice"),
        (changed(lambda data: data.__setitem__("python", None)), "there are wheels, and 'python' is null"),
        (changed(lambda data: data.__setitem__("python", "3.11; x")), "python: '3.11; x' has not the form"),
        (changed(lambda data: data["suites"][0].__setitem__("date", "2023-13-01T00:00:00Z")), "date: '2023-13-01"),
        (changed(lambda data: data["requested"].__setitem__("base", 12)), "base: expected text, found 12"),
        (changed(lambda data: data["requested"].__setitem__("packages", [None])), "expected text, found None"),
        (in_package("size", "1234"), "packages, entry 2 (curl): size"),
        (in_package("size", True), "packages, entry 2 (curl): size"),
        (in_package("size", -1), "packages, entry 2 (curl): size"),
        (in_package("sha256", "ABC"), "sha256: 'ABC' has not the form"),
        (in_package("version", "1.0 -o x"), "version: '1.0 -o x'"),
        (in_package("name", "--x"), "name: '--x'"),
        (in_package("name", "x\n"), "name: 'x\\n'"),
        (in_package("step", "other"), "step: 'other'"),
        (in_package("extra", 1), "unknown key 'extra'"),
        (in_package("path", "../x.deb"), "path: '../x.deb'"),
        (in_package("path", "pool/../../x.deb"), "path: "),
        (in_package("path", "/etc/x.deb"), "path: "),
        (in_package("path", "pool//x.deb"), "path: "),
        (in_package("path", "pool/x.deb?a"), "path: "),
        (in_package("path", "pool/x y.deb"), "path: "),
        (in_wheel("filename", "../x-1-py3-none-any.whl"), "filename: "),
        (in_wheel("filename", "x/y-1-py3-none-any.whl"), "filename: "),
        (in_wheel("filename", "x.whl"), "filename: "),
        (in_wheel("version", "1.0\n--index-url=x"), "version: "),
        (in_wheel("name", "Flask"), "name: 'Flask'"),
    ],
)
def test_a_wrong_lock_is_refused_saying_what_is_wrong(tmp_path: Path, text: str, cause: str) -> None:
    path = tmp_path / "instar.lock"
    path.write_text(text)
    with pytest.raises(LockError) as caught:
        read(path)
    assert str(caught.value).startswith(f"cannot read '{path}': ")
    assert cause in str(caught.value)


def test_bytes_that_are_no_text_and_folders_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "instar.lock"
    path.write_bytes(b"\xff")
    with pytest.raises(LockError, match="not UTF-8"):
        read(path)
    with pytest.raises(LockError, match="directory"):
        read(tmp_path)


def test_a_link_at_a_temporary_name_is_not_written_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    monkeypatch.setattr("os.urandom", bytes)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / f".instar.lock.{bytes(8).hex()}").symlink_to(victim)
    with pytest.raises(LockError):
        write(folder / "instar.lock", LOCK)
    assert victim.read_text() == "mine"


def with_stages(**stages: Any) -> Lock:
    return dataclasses.replace(LOCK, id="0123456789abcdef" * 2, build=stages)


def test_what_is_locked_for_a_stage_stands_in_it_as_the_images_does(tmp_path: Path) -> None:
    less = dataclasses.replace(LOCK, packages=LOCK.packages[:1], wheels=(), python=None)
    lock = with_stages(second=LOCK, first=less)
    write(tmp_path / "instar.lock", lock)
    assert read(tmp_path / "instar.lock") == lock
    text = (tmp_path / "instar.lock").read_text()
    data = json.loads(text)
    assert data["instar-lock"] == 3
    assert list(data["build"]) == ["first", "second"]
    assert {**data, **data["build"]["second"]} == data
    more = dump(with_stages(second=dataclasses.replace(LOCK, packages=(*LOCK.packages, package("gcc"))), first=less))
    (line,) = [line for line in more.splitlines() if line not in text.splitlines()]
    assert line.startswith('        {"name": "gcc", ')


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda data: data.__setitem__("build", []), "build: expected an object"),
        (
            lambda data: data.__setitem__("build", {"X y": {}}),
            "build: the name of a stage: 'X y' has not the form of one",
        ),
        (lambda data: data["build"].__setitem__("x", []), "build.x: expected an object"),
        (lambda data: data["build"]["one"].__setitem__("id", "0" * 32), "build.one: unknown key 'id'"),
        (lambda data: data["build"]["one"].__setitem__("build", {}), "build.one: unknown key 'build'"),
        (lambda data: data["build"]["one"].__setitem__("bake-format", 1), "build.one: unknown key 'bake-format'"),
        (lambda data: data["build"]["one"].pop("suites"), "build.one: the lock: 'suites' is missing"),
        (
            lambda data: data["build"]["one"]["packages"][0].__setitem__("path", "../x.deb"),
            "build.one: packages, entry 1 (bash): path: '../x.deb' has not the form of one",
        ),
        (lambda data: data.__setitem__("instar-lock", 2), "the lock: unknown key 'build'"),
    ],
)
def test_what_is_wrong_in_a_stage_is_told_with_its_name(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], expected: str
) -> None:
    data = json.loads(dump(with_stages(one=LOCK)))
    change(data)
    (tmp_path / "instar.lock").write_text(json.dumps(data))
    with pytest.raises(LockError) as caught:
        read(tmp_path / "instar.lock")
    assert expected in caught.value.message


def built(**other: Any) -> Lock:
    own = SourceBuild(
        stage="compile",
        inputs=Digest.of(b"stage"),
        filename="acme-1.0.tar.gz",
        sha256=Digest.of(b"source"),
        requires=(wheel("setuptools"),),
    )
    requested = dataclasses.replace(LOCK.requested, from_source=(("compile", ("acme",)),))
    made = dataclasses.replace(wheel("acme"), built=dataclasses.replace(own, **other))
    mine = dataclasses.replace(wheel("mine"), path="wheels/mine-1.0-py3-none-any.whl")
    return dataclasses.replace(LOCK, requested=requested, wheels=(made, *LOCK.wheels, mine))


def test_wheels_of_ones_own_and_built_ones_are_in_a_lock_of_version_3(tmp_path: Path) -> None:
    write(tmp_path / "instar.lock", built())
    assert read(tmp_path / "instar.lock") == dataclasses.replace(
        built(), wheels=tuple(sorted(built().wheels, key=lambda one: one.name))
    )
    assert json.loads((tmp_path / "instar.lock").read_text())["instar-lock"] == 3


@pytest.mark.parametrize(
    "other",
    [{"stage": "other"}, {"stage": "../x"}, {"filename": "../a-1.tar.gz"}, {"filename": "a-1.zip"}, {"index": "i"}],
)
def test_a_built_wheel_is_read_in_its_form_alone(tmp_path: Path, other: dict[str, str]) -> None:
    (tmp_path / "instar.lock").write_text(dump(built(**other)))
    with pytest.raises(LockError):
        read(tmp_path / "instar.lock")


@pytest.mark.parametrize(
    "path", ["../a-1.0-py3-none-any.whl", "/a-1-b-c.whl", "a/../b.whl", "./a.whl", "a//b.whl", "a"]
)
def test_the_path_of_a_wheel_leads_nowhere_else(tmp_path: Path, path: str) -> None:
    lock = dataclasses.replace(LOCK, wheels=(dataclasses.replace(wheel("mine"), path=path),))
    (tmp_path / "instar.lock").write_text(dump(lock))
    with pytest.raises(LockError, match="path"):
        read(tmp_path / "instar.lock")
