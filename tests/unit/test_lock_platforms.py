"""A lock for several platforms: its file, what it fits, and what is wrong with one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lock_values import LOCK, author_writes

from instar.definition import Loaded, parse
from instar.errors import DefinitionError, LockError, LockStale, Refused
from instar.lock.file import read
from instar.lock.fit import require_fit
from instar.lock.written import dump
from instar.model.lock import Lock
from instar.operations.lock import lock_of

AMD = dataclasses.replace(
    LOCK, architecture="amd64", packages=tuple(dataclasses.replace(one, architecture="amd64") for one in LOCK.packages)
)
ARM = dataclasses.replace(
    LOCK, architecture="arm64", packages=tuple(dataclasses.replace(one, architecture="arm64") for one in LOCK.packages)
)
BOTH = dataclasses.replace(AMD, id="0123456789abcdef" * 2, platforms={"linux/arm64": ARM})


def declared(folder: Path, platforms: str, more: str = "") -> Loaded:
    text = author_writes(folder).text.replace("image:\n", f"{more}image:\n  platforms: {platforms}\n")
    return parse(text, str(folder / "instar.yaml"))


def test_a_platform_has_a_part_of_the_file_and_the_rest_stays_as_it_was(tmp_path: Path) -> None:
    alone = dump(dataclasses.replace(BOTH, platforms={}))
    text = dump(BOTH)
    (tmp_path / "instar.lock").write_text(text)
    assert read(tmp_path / "instar.lock") == BOTH
    assert text.startswith(alone.replace('"instar-lock": 2', '"instar-lock": 3').removesuffix("\n}\n"))
    data = json.loads(text)
    part = data["platforms"]["linux/arm64"]
    assert {**data, **part} == {**data, "packages": part["packages"]}
    assert {one["architecture"] for one in part["packages"]} == {"arm64"}


def test_each_platform_is_a_whole_lock() -> None:
    assert [one.architecture for one in BOTH.whole] == ["amd64", "arm64"]
    assert BOTH.find_platform("linux/arm64") == dataclasses.replace(ARM, id=BOTH.id)
    assert BOTH.find_platform("linux/amd64") == dataclasses.replace(AMD, id=BOTH.id)
    assert (BOTH.find_platform("linux/s390x"), AMD.whole) == (None, (AMD,))


def wrong(data: dict[str, Any], *path: str) -> dict[str, Any]:
    for key in path:
        data = data[key]
    return data


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda data: data.__setitem__("platforms", []), "platforms: expected an object"),
        (
            lambda data: data["platforms"].__setitem__("arm64", {}),
            "platforms: the name of one: 'arm64' has not the form of one",
        ),
        (
            lambda data: data["platforms"].__setitem__("linux/amd64", {}),
            "platforms: 'linux/amd64' is what the lock itself is for",
        ),
        (lambda data: data["platforms"].__setitem__("linux/arm64", 1), "platforms.linux/arm64: expected an object"),
        (
            lambda data: wrong(data, "platforms", "linux/arm64").__setitem__("architecture", "arm64"),
            "platforms.linux/arm64: unknown key 'architecture'",
        ),
        (
            lambda data: wrong(data, "platforms", "linux/arm64").__setitem__("packages", data["packages"]),
            "platforms.linux/arm64: the package 'bash' is for amd64, and this part for arm64",
        ),
        (lambda data: data["platforms"]["linux/arm64"].pop("wheels"), "platforms.linux/arm64: the lock: 'wheels' is"),
        (lambda data: data.__setitem__("instar-lock", 2), "the lock: unknown key 'platforms'"),
    ],
)
def test_what_is_wrong_in_a_platform_is_told_with_its_name(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], expected: str
) -> None:
    data = json.loads(dump(BOTH))
    change(data)
    (tmp_path / "instar.lock").write_text(json.dumps(data))
    with pytest.raises(LockError) as caught:
        read(tmp_path / "instar.lock")
    assert expected in caught.value.message


def unfit(lock: Lock, loaded: Loaded) -> list[str]:
    try:
        require_fit(lock, loaded)
    except LockStale as error:
        return [line.rpartition("/instar.yaml:")[2] for line in str(error).splitlines()[1:]]
    return []


def test_a_lock_fits_when_it_has_just_the_platforms_that_are_asked_for(tmp_path: Path) -> None:
    assert unfit(BOTH, declared(tmp_path, "[linux/arm64, linux/amd64]")) == []
    assert unfit(AMD, declared(tmp_path, "[linux/amd64]")) == []
    assert unfit(ARM, declared(tmp_path, "[linux/arm64]")) == []
    assert unfit(AMD, declared(tmp_path, "[linux/amd64, linux/arm64]")) == [
        "3:3: platform 'linux/arm64' is not in instar.lock"
    ]
    assert unfit(BOTH, declared(tmp_path, "[linux/arm64]")) == [
        "3:3: platform 'linux/amd64' is in instar.lock and no longer here"
    ]
    old = dataclasses.replace(ARM, requested=dataclasses.replace(ARM.requested, packages=("curl",)))
    assert unfit(dataclasses.replace(BOTH, platforms={"linux/arm64": old}), declared(
        tmp_path, "[linux/amd64, linux/arm64]")) == ["5:20: package 'perl=5.36' is not in instar.lock"]  # fmt: skip


def test_a_stage_is_locked_for_the_platform_that_it_is_baked_for(tmp_path: Path) -> None:
    stage = "build:\n  one: {base: debian:bookworm, packages: [curl, perl=5.36], python: requirements.txt%s}\n"
    own = declared(tmp_path, "[linux/arm64]", stage % ", platform: linux/amd64")
    assert unfit(dataclasses.replace(ARM, build={"one": AMD}), own) == []
    assert unfit(dataclasses.replace(ARM, build={"one": ARM}), own) == [
        "3:97: stage 'one' is locked for linux/arm64, and is for linux/amd64"
    ]
    both = declared(tmp_path, "[linux/amd64, linux/arm64]", stage % "")
    (told,) = unfit(dataclasses.replace(BOTH, build={"one": AMD}), both)  # it has none for arm64
    assert told.endswith("stage 'one' is locked for linux/amd64, and is for linux/arm64")


def test_a_definition_for_other_machines_says_so_when_it_is_to_be_baked(tmp_path: Path) -> None:
    loaded = declared(tmp_path, "[linux/arm64]")
    assert lock_of(loaded, ARM, "linux/arm64") == ARM
    with pytest.raises(Refused, match=r"instar\.yaml:3:3: cannot bake 'web' for linux/amd64: it is for linux/arm64"):
        lock_of(loaded, ARM, "linux/amd64")


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("[linux/arm46]", "did you mean 'linux/arm64'?"),
        ("[aarch64]", "did you mean 'linux/arm64'?"),
        ("[linux/x86_64]", "did you mean 'linux/amd64'?"),
        ("[linux/arm64/v8]", "did you mean 'linux/arm64'?"),
        ("[windows/amd64]", "expected linux/amd64 or linux/arm64"),
        ("[linux/riscv64]", "images are made for no other platforms"),
        ("[]", "platforms"),
        ("[linux/arm64, linux/arm64]", "twice"),
        ("[linux/arm64]\n  platform: linux/arm64", "did you mean 'platforms'?"),
        ("[linux/arm64]\n  files: [{from: x, to: /x, platform: linux/amd64}]", "is none of 'image.platforms'"),
        ("[linux/arm64]\n  files: [{from: x, to: /x, platform: amd64}]", "did you mean 'linux/amd64'?"),
    ],
)
def test_a_platform_that_is_none_is_told_with_what_may_be_meant(tmp_path: Path, written: str, told: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        declared(tmp_path, written)
    assert told in str(caught.value)
