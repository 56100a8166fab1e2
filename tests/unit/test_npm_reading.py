"""package.json and package-lock.json: what is read, and what is refused with file, line and a way on."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from instar.ecosystems.npm import ECOSYSTEM as NPM
from instar.ecosystems.protocol import Manifest
from instar.errors import DefinitionError
from instar.model.projects import NpmPackages

HASH = "sha512-" + base64.b64encode(hashlib.sha512(b"a package").digest()).decode()
SHA1 = "sha1-" + base64.b64encode(hashlib.sha1(b"a package").digest()).decode()
MANIFEST: dict[str, Any] = {"name": "shop", "dependencies": {"express": "^4.18.2"}, "devDependencies": {"tap": "1"}}
EXPRESS: dict[str, Any] = {"version": "4.18.2", "resolved": "https://any.example/e.tgz", "integrity": HASH}


def lock_file(entries: Mapping[str, Any] | None = None, version: Any = 3, **root: Any) -> dict[str, Any]:
    own = {key: MANIFEST[key] for key in ("name", "dependencies", "devDependencies")}
    others = {
        "node_modules/express": EXPRESS,
        "node_modules/tap": {"version": "1.0.0", "integrity": HASH, "dev": True},
    }
    return {"lockfileVersion": version, "packages": {"": own | root, **others, **(entries or {})}}


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Manifest]:
    def reading(
        lock: Any, manifest: Any = MANIFEST, *, dev: bool = False, scripts: tuple[str, ...] = (), machine: str = "amd64"
    ) -> Manifest:
        (tmp_path / "app").mkdir(exist_ok=True)
        for name, content in (("package.json", manifest), ("package-lock.json", lock)):
            text = content if isinstance(content, str) else json.dumps(content, indent=2)
            (tmp_path / "app" / name).write_text(text)
        use = NpmPackages(source="app", to="/srv/app", dev=dev, scripts=scripts)
        return NPM.read(tmp_path, use, machine)

    return reading


def names(manifest: Manifest) -> list[str]:
    return [one.shown for one in manifest.wanted]


def test_what_is_for_development_is_left_out_unless_it_is_asked_for(read: Callable[..., Manifest]) -> None:
    assert names(read(lock_file())) == ["express 4.18.2"]
    assert names(read(lock_file(), dev=True)) == ["express 4.18.2", "tap 1.0.0"]


def test_each_file_is_wanted_once_by_its_own_name_and_best_hash(read: Callable[..., Manifest]) -> None:
    entries = {
        "node_modules/@scope/a": {"version": "1.0.0", "integrity": f"{SHA1} {HASH}"},
        "node_modules/express/node_modules/@scope/a": {"version": "1.0.0", "integrity": HASH},
        "node_modules/other-name": {"name": "real-name", "version": "2.0.0-rc.1", "integrity": HASH},
        "node_modules/express/node_modules/brought": {"version": "1.0.0", "inBundle": True},
    }
    found = read(lock_file(entries))
    assert names(found) == ["express 4.18.2", "@scope/a 1.0.0", "real-name 2.0.0-rc.1"]
    assert {one.hash for one in found.wanted} == {HASH}
    assert found.wanted[0].place == "app/package-lock.json:13"


def test_what_is_optional_and_for_another_platform_is_left_out(read: Callable[..., Manifest]) -> None:
    def one(**more: Any) -> dict[str, Any]:
        return {"version": "1.0.0", "integrity": HASH, "optional": True, **more}

    entries = {
        "node_modules/for-mac": one(os=["darwin"]),
        "node_modules/not-for-linux": one(os=["!linux"]),
        "node_modules/for-arm": one(os=["linux"], cpu=["arm64"]),
        "node_modules/for-pc": one(os=["linux"], cpu=["x64"]),
        "node_modules/not-for-windows": one(os=["!win32"], cpu=[]),
    }
    assert names(read(lock_file(entries)))[1:] == ["for-pc 1.0.0", "not-for-windows 1.0.0"]
    assert names(read(lock_file(entries), machine="arm64"))[1:] == ["for-arm 1.0.0", "not-for-windows 1.0.0"]


def test_install_scripts_that_are_not_run_are_told_of(read: Callable[..., Manifest]) -> None:
    entries = {"node_modules/bcrypt": {"version": "5.1.0", "integrity": HASH, "hasInstallScript": True}}
    (note,) = read(lock_file(entries)).notes
    assert "scripts: [bcrypt]" in note
    assert read(lock_file(entries), scripts=("bcrypt",)).notes == ()
    with pytest.raises(DefinitionError, match=r"'bcript', whose scripts image\.npm wants to be run, is not in it"):
        read(lock_file(entries), scripts=("bcript",))


@pytest.mark.parametrize(
    ("lock", "message", "hint"),
    [
        (lock_file(version=1), "package-lock.json:2:1: its lockfileVersion is 1; 2 and 3 are read", "npm 7 or a later"),
        (lock_file({"node_modules/a": {**EXPRESS, "license": "\ud800"}}), "half of a character (\\ud800)", ""),
        (lock_file({"node_modules/a": {**EXPRESS, "\udfff": 1}}), "half of a character (\\udfff)", ""),
        (lock_file({"node_modules/a": {**EXPRESS, "size": float("nan")}}), "it is not JSON that can be read", ""),
        (lock_file(version="3"), 'its lockfileVersion is "3"', "npm 7"),
        ({"packages": {}}, "its lockfileVersion is null", "npm 7"),
        ("{", "it is not JSON", ""),
        ("[]", "it is not an object", ""),
        ("[" * 100_000, "it is not JSON that can be read", ""),
        ({"lockfileVersion": 3, "packages": []}, "no 'packages' that can be read", "--package-lock-only"),
        ({"lockfileVersion": 3, "packages": {"a": 1}}, "no 'packages' that can be read", "--package-lock-only"),
        ({"lockfileVersion": 3, "packages": {}}, "which package.json it was made for", "--package-lock-only"),
        (lock_file(dependencies={"express": "^3"}), "'express' is '^4.18.2' here, and is '^3' in package-lock", "fits"),
        (lock_file(dependencies={}), "'express' is '^4.18.2' here, and is not in package-lock.json", "fits"),
        (
            lock_file(optionalDependencies={"left-pad": "1"}),
            "made for 'left-pad' '1', which package.json has not",
            "fits",
        ),
        (lock_file(dependencies=["express"]), "its 'dependencies' are not names with versions", ""),
        (
            lock_file({"node_modules/a": {"version": "1.0.0", "resolved": "git+ssh://git@any.example/a.git#1234"}}),
            "'a' comes from git or a file",
            "npm install a@VERSION",
        ),
        (
            lock_file({"node_modules/a": {"version": "1.0.0", "resolved": "file:../a.tgz", "integrity": HASH}}),
            "'a' comes from git or a file",
            "npm install a@VERSION",
        ),
        (lock_file({"node_modules/a": {"resolved": "libs/a", "link": True}}), "'a' is a folder", "image.files"),
        (lock_file({"libs/a": {"version": "1.0.0"}}), "'libs/a' is a folder", "image.files"),
        (lock_file({"node_modules/a": {"version": "1.0.0"}}), "'a' 1.0.0 has no hash", "npm install"),
        (lock_file({"node_modules/a": {"version": "1.0.0", "integrity": SHA1}}), "'a' 1.0.0 has no hash", ""),
        (lock_file({"node_modules/a": {"version": "1.0.0", "integrity": "sha512-AAAA"}}), "has no hash", ""),
        (lock_file({"node_modules/a": {"version": "1.0.0", "integrity": 7}}), "has no hash", ""),
        (lock_file({"node_modules/a": {"integrity": HASH}}), "'a' has no version that can be read", ""),
        (lock_file({"node_modules/a": {"version": "../1", "integrity": HASH}}), "no version that can be read", ""),
        (
            lock_file({"node_modules/a": {"name": "../../etc", "version": "1.0.0", "integrity": HASH}}),
            "not the form of a package's name",
            "",
        ),
        (lock_file({"node_modules/a": {**EXPRESS, "name": None}}), "not the form of a package's name", ""),
        *(
            (lock_file({path: {"version": "1.0.0", "integrity": HASH}}), "not the form of a package's name", "")
            for path in (
                "node_modules/..",
                "node_modules/../../etc/cron.d",
                "node_modules/a/node_modules/../../b",
                "node_modules/.bin",
                "node_modules/@scope",
                "node_modules/a b",
                "node_modules/a\nb",
                "node_modules//etc",
                "node_modules/",
            )
        ),
    ],
)
def test_a_lock_file_that_cannot_be_used_is_refused(
    read: Callable[..., Manifest], lock: Any, message: str, hint: str
) -> None:
    with pytest.raises(DefinitionError) as caught:
        read(lock)
    assert message in str(caught.value)
    assert str(caught.value).startswith(("app/package-lock.json:", "app/package.json:"))
    assert hint in (caught.value.hint or "")


def test_characters_of_two_halves_and_backslashes_are_text(read: Callable[..., Manifest]) -> None:
    entry = {**EXPRESS, "author": "\N{SNAIL}", "bin": "C:\\udc00", "license": "\\\N{SNAIL}"}
    assert names(read(lock_file({"node_modules/a": entry}))) == ["express 4.18.2", "a 4.18.2"]


WORKSPACES = {
    "node_modules/lib": {"resolved": "libs/lib", "link": True},
    "libs/lib": {"name": "lib", "version": "1.0.0", "dependencies": {"ms": "2.0.0"}},
    "libs/lib/node_modules/ms": {"version": "2.0.0", "integrity": HASH},
}


def in_a_workspace(folder: Path, **manifest: Any) -> None:
    (folder / "app/libs/lib").mkdir(parents=True)
    own = {"name": "lib", "version": "1.0.0", "dependencies": {"ms": "2.0.0"}, **manifest}
    (folder / "app/libs/lib/package.json").write_text(json.dumps(own))


def test_workspaces_are_read_with_their_own_packages(read: Callable[..., Manifest], tmp_path: Path) -> None:
    in_a_workspace(tmp_path)
    found = read(lock_file(WORKSPACES, workspaces=["libs/*"]), {**MANIFEST, "workspaces": ["libs/*"]})
    assert names(found) == ["express 4.18.2", "ms 2.0.0"]
    assert sorted(found.files) == ["libs/lib/package.json", "package-lock.json", "package.json"]
    assert found.wanted[1].place == "app/package-lock.json:37"


def test_a_workspace_that_is_another_than_the_lock_files_is_refused(
    read: Callable[..., Manifest], tmp_path: Path
) -> None:
    mono = {**MANIFEST, "workspaces": ["libs/*"]}
    with pytest.raises(DefinitionError, match=r"package\.json:\d+:1: its workspaces are others"):
        read(lock_file(), mono)
    with pytest.raises(DefinitionError, match=r"app/libs/lib/package\.json:1:1: there is no such file"):
        read(lock_file(WORKSPACES, workspaces=["libs/*"]), mono)
    in_a_workspace(tmp_path, dependencies={"ms": "3.0.0"})
    with pytest.raises(DefinitionError, match=r"app/libs/lib/package\.json:1:1: 'ms' is '3.0.0' here"):
        read(lock_file(WORKSPACES, workspaces=["libs/*"]), mono)


@pytest.mark.parametrize("folder", ["../lib", "/srv/lib", "l/../../lib", "./libs", "node_modules/x", "libs//l", "", 1])
def test_a_workspace_that_leads_out_is_refused(read: Callable[..., Manifest], folder: Any) -> None:
    entries = {"node_modules/lib": {"resolved": folder, "link": True}, str(folder) or "x": {"version": "1.0.0"}}
    with pytest.raises(DefinitionError, match="is a folder that is not below this one"):
        read(lock_file(entries, workspaces=["libs/*"]), {**MANIFEST, "workspaces": ["libs/*"]})


def test_the_files_are_missing(tmp_path: Path) -> None:
    use = NpmPackages(source=".", to="/srv/app")
    with pytest.raises(DefinitionError, match=r"^package\.json:1:1: there is no such file"):
        NPM.read(tmp_path, use, "amd64")
    (tmp_path / "package.json").write_text("{}")
    (tmp_path / "yarn.lock").write_text("")
    with pytest.raises(DefinitionError, match=r"^package-lock\.json:1:1") as caught:
        NPM.read(tmp_path, use, "amd64")
    assert caught.value.hint == "of lock files, npm's is read, not yarn's: npm install --package-lock-only makes one"


def test_a_link_to_another_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "package.json").symlink_to("/etc/shadow")
    with pytest.raises(DefinitionError, match="it is a link") as caught:
        NPM.read(tmp_path, NpmPackages(source=".", to="/srv/app"), "amd64")
    assert "root" not in str(caught.value)
