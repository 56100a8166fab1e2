"""npm's packages in an image: this machine's npm installs, in the sandbox, what a registry on loopback serves."""

from __future__ import annotations

import dataclasses
import json
import platform
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from bake_kit import World
from npm_kit import NpmRegistry, node_packages, npm_registry, package, write_project

from instar.bake import Baked
from instar.definition.parts import image_of
from instar.errors import StepFailed
from instar.lock.artifacts import lock_artifacts
from instar.model.lock import Lock, Package
from instar.model.progress import silent

pytestmark = [
    pytest.mark.root,
    pytest.mark.thorough,  # the image's base is node, of 100 MB
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the image is for amd64"),
]

IMAGE = "base: debian:test\npackages: [node]\n"
NPM = "npm: {from: app, to: /srv/app}\n"
# What a hostile install script looks for, and where it writes down what it found.
LOOKS = """\
const fs = require('fs'), net = require('net'), os = require('os');
const found = [];
const interfaces = Object.keys(os.networkInterfaces());
if (interfaces.join() !== 'lo' && interfaces.length) found.push('interfaces ' + interfaces);
for (const path of ['/etc/shadow', '/root/.npmrc', '/var/lib/instar', process.env.MACHINE_FILE])
  if (path && fs.existsSync(path)) found.push(path);
if (fs.readdirSync('/proc').filter(n => /^[0-9]+$/.test(n)).length > 20) found.push('processes');
for (const name of Object.keys(process.env)) if (/TOKEN|SECRET|registry.*127/i.test(name)) found.push(name);
try { fs.writeFileSync('/tmp/npm/_cacache/owned', ''); found.push('the cache can be written'); } catch {}
const socket = net.connect(PORT, '127.0.0.1');
const done = (text) => {
  if (text) found.push(text);
  fs.writeFileSync('found.json', JSON.stringify(found));
  process.exit(0);
};
socket.on('connect', () => done('the registry')); socket.on('error', () => done());
"""


class Npm:
    """A world whose base is there already, and a registry."""

    def __init__(self, world: World, packages: Sequence[Package], registry: NpmRegistry) -> None:
        self.world, self.packages, self.registry = world, packages, registry

    def bake(self, image: str = NPM, world: World | None = None) -> Baked:
        world = world or self.world
        loaded = world.load(IMAGE + image)
        return world.bake(loaded, self.lock(image, world))

    def lock(self, image: str, world: World) -> Lock:
        plain = world.lock(self.packages, bake_format=2)
        artifacts = lock_artifacts(image_of(world.load(IMAGE + image)), (), "amd64", world.cache, silent)
        return dataclasses.replace(plain, artifacts=artifacts)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, list[Package]]]:
    world = World(tmp_path_factory.mktemp("npm"))
    yield world, node_packages(world)
    world.close()


@pytest.fixture
def npm(shared: tuple[World, list[Package]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Npm]:
    world, packages = shared
    world.folder = tmp_path / "project"
    world.folder.mkdir()
    with npm_registry(tmp_path) as registry:
        (tmp_path / ".npmrc").write_text(f"registry={registry.address}\n")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("npm_config_globalconfig", "/nonexistent")
        yield Npm(world, packages, registry)


def write(npm: Npm, bins: Mapping[str, str] | None = None, **packages: bytes) -> None:
    """Publish packages, and write a project that wants them; ``bins`` are the programs of the last of them."""
    entries = {name: npm.registry.publish(name, "1.0.0", data) for name, data in packages.items()}
    if bins:
        entries[list(entries)[-1]]["bin"] = dict(bins)
    write_project(npm.world.folder, entries)


def tree(world: World, baked: Baked, top: str = "srv/app") -> dict[str, Any]:
    """Return what is below ``top`` of the image: path → what a file holds, where a link leads."""
    with world.mounted(baked.image) as root:
        found: dict[str, Any] = {}
        for path in sorted((root / top).rglob("*")):
            if path.is_symlink() or path.is_file():
                found[str(path.relative_to(root))] = str(path.readlink()) if path.is_symlink() else path.read_bytes()
        return found


def test_packages_are_installed_and_can_be_required(npm: Npm) -> None:
    inner = package({"package/index.js": b"module.exports = 'inner'\n"}, name="inner", version="1.0.0")
    outer = package(
        {"package/index.js": b"module.exports = require('inner')\n", "package/cli.js": b"#!/usr/bin/env node\n"},
        name="outer", version="1.0.0", bin={"outer": "cli.js"}, dependencies={"inner": "1.0.0"},
    )  # fmt: skip
    write(npm, {"outer": "cli.js"}, inner=inner, outer=outer)
    line = "cd /srv/app && node -e \"require('fs').writeFileSync('/srv/said', require('outer'))\""
    baked = npm.bake(f"{NPM}run: ['{line.replace(chr(39), chr(39) * 2)}']\n")
    found = tree(npm.world, baked, "srv")
    assert found["srv/said"] == b"inner"
    assert found["srv/app/node_modules/.bin/outer"] == "../outer/cli.js"
    assert found["srv/app/package-lock.json"] == (npm.world.folder / "app/package-lock.json").read_bytes()
    assert set(found) == {
        "srv/said", "srv/app/package.json", "srv/app/package-lock.json", "srv/app/node_modules/.package-lock.json",
        "srv/app/node_modules/.bin/outer",
        *(f"srv/app/node_modules/{name}" for name in ("inner/package.json", "inner/index.js", "outer/package.json",
                                                     "outer/index.js", "outer/cli.js")),
    }  # fmt: skip
    with npm.world.mounted(baked.image) as root:
        assert not [*(root / "tmp").iterdir(), *(root / "root").iterdir(), *(root / "run").glob("*")]


def test_two_bakes_give_the_same_bytes_and_the_second_has_nothing_to_do(npm: Npm, tmp_path: Path) -> None:
    write(npm, one=package({"package/index.js": b"1\n"}, name="one", version="1.0.0"))
    first = npm.bake()
    assert all(step.cached for step in npm.bake().steps)
    for path in npm.world.state.steps.glob("*.json"):
        if '"step":"npm"' in path.read_text():
            path.unlink()
    again = npm.bake()
    assert [step.step for step in again.steps if not step.cached] == ["npm"]
    assert again.image.digest == first.image.digest


def test_an_install_script_runs_where_it_is_named_and_finds_neither_the_network_nor_the_machine(
    npm: Npm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPM_TOKEN_OF_THE_MACHINE", "t0k3n")
    looks = LOOKS.replace("PORT", npm.registry.address.rpartition(":")[2]).encode()
    nosy = package({"package/look.js": looks}, name="nosy", version="1.0.0", scripts={"install": "node look.js"})
    entry = npm.registry.publish("nosy", "1.0.0", nosy)
    write_project(npm.world.folder, {"nosy": {**entry, "hasInstallScript": True}})
    asked = len(npm.registry.asked)
    assert "srv/app/node_modules/nosy/found.json" not in tree(npm.world, npm.bake())
    allowed = tree(npm.world, npm.bake("npm: {from: app, to: /srv/app, scripts: [nosy]}\n"))
    assert allowed["srv/app/node_modules/nosy/found.json"] == b"[]"
    assert len(npm.registry.asked) == asked + 2, (
        "each of the two locks fetched the file, and nothing else was asked for"
    )


def test_hostile_packages_write_nothing_beside_their_folder(npm: Npm) -> None:
    def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.mode = kind, link, 0o4777
        return info

    files: dict[str, bytes | tarfile.TarInfo] = {
        "package/../../../../../etc/above": b"x",
        "/etc/absolute": b"x",
        "package/link": special("package/link", tarfile.SYMTYPE, "/etc"),
        "package/link/through": b"x",
        "package/hard": special("package/hard", tarfile.LNKTYPE, "/etc/hosts"),
        "package/device": special("package/device", tarfile.CHRTYPE),
        "package/pipe": special("package/pipe", tarfile.FIFOTYPE),
        "package/ok.js": b"ok",
        "package/su": special("package/su", tarfile.REGTYPE),
        "package/inside/": special("package/inside/", tarfile.DIRTYPE),
        "package/inside/of": b"x",
    }
    bins = {"../../../../etc/bin": "ok.js", "passwd": "../../../../../etc/passwd"}
    write(npm, bins, hostile=package(files, name="hostile", version="1.0.0", bin=bins))
    baked = npm.bake()
    step = next(step for step in baked.steps if step.step == "npm")
    before = next(step for step in baked.steps if step.step == "base")
    assert before.layer != step.layer
    with npm.world.mounted(baked.image) as root:
        assert not [name for name in ("above", "absolute", "through", "bin") if (root / "etc" / name).exists()]
        mine = root / "srv/app/node_modules/hostile"
        assert (mine / "ok.js").read_bytes() == b"ok"
        assert not [path for path in (root / "srv").rglob("*") if not (path.is_file() or path.is_dir())]
        assert not [path for path in mine.rglob("*") if path.stat().st_mode & 0o7000]


def test_the_authors_own_modules_and_configuration_are_not_copied(npm: Npm) -> None:
    write(npm, one=package({"package/index.js": b"locked\n"}, name="one", version="1.0.0"))
    app = npm.world.folder / "app"
    (app / "node_modules/one").mkdir(parents=True)
    (app / "node_modules/one/index.js").write_text("of the author's machine\n")
    (app / ".npmrc").write_text("//registry.example/:_authToken=t0k3n\nregistry=http://127.0.0.1:9\n")
    (app / "server.js").write_text("1\n")
    found = tree(npm.world, npm.bake(f"{NPM}files: [{{from: app, to: /srv/app}}]\n"))
    assert found["srv/app/node_modules/one/index.js"] == b"locked\n"
    assert "srv/app/server.js" in found
    assert "srv/app/.npmrc" not in found


def test_a_lock_file_that_lacks_what_a_package_needs_says_so(npm: Npm) -> None:
    write(npm, one=package({}, name="one", version="1.0.0"))
    text = (npm.world.folder / "app/package-lock.json").read_text()
    changed = text.replace('"resolved"', '"dependencies": {"missing": "1.0.0"}, "resolved"')
    (npm.world.folder / "app/package-lock.json").write_text(changed)
    with pytest.raises(StepFailed) as caught:
        npm.bake()
    assert caught.value.step == "npm"
    assert "missing" in caught.value.output
    assert not npm.world.work_left()


def test_an_image_without_npm(npm: Npm, tmp_path: Path) -> None:
    from bake_kit import shell_packages

    write(npm, one=package({}, name="one", version="1.0.0"))
    world = World(tmp_path / "without")
    world.folder = npm.world.folder
    try:
        packages, npm.packages = npm.packages, shell_packages(world)
        with pytest.raises(StepFailed, match="there is no npm in the image") as caught:
            npm.bake(world=world)
        npm.packages = packages
    finally:
        world.close()
    assert caught.value.hint == "add nodejs and npm to image.packages"


def test_workspaces_are_linked_and_have_packages_of_their_own(npm: Npm) -> None:
    folder, first, second = (
        npm.world.folder / "app",
        *(
            package({"package/index.js": f"module.exports = '{one}'\n".encode()}, name="ms", version=one)
            for one in ("1.0.0", "2.0.0")
        ),
    )
    manifests = {
        "": {"name": "mono", "version": "1.0.0", "workspaces": ["libs/*", "web"]},
        "libs/lib": {"name": "@acme/lib", "version": "1.0.0", "dependencies": {"ms": "1.0.0"}},
        "web": {"name": "web", "version": "1.0.0", "dependencies": {"@acme/lib": "1.0.0", "ms": "2.0.0"}},
    }
    entries: dict[str, Any] = {
        **manifests,
        "node_modules/@acme/lib": {"resolved": "libs/lib", "link": True},
        "node_modules/web": {"resolved": "web", "link": True},
        "node_modules/ms": npm.registry.publish("ms", "1.0.0", first),
        "web/node_modules/ms": npm.registry.publish("ms", "2.0.0", second),
    }
    for path, manifest in manifests.items():
        (folder / path).mkdir(parents=True)
        (folder / path / "package.json").write_text(json.dumps(manifest))
    lock = {"name": "mono", "version": "1.0.0", "lockfileVersion": 3, "requires": True, "packages": entries}
    (folder / "package-lock.json").write_text(json.dumps(lock))
    (folder / "libs/lib/index.js").write_text("module.exports = require('ms')\n")
    (folder / "web/node_modules/ms").mkdir(parents=True)
    (folder / "web/node_modules/ms/index.js").write_text("of the author's machine\n")
    line = "cd /srv/app/web && node -p \"require('@acme/lib') + ' ' + require('ms')\" > /srv/said"
    files = "files: [{from: app, to: /srv/app}]\n"
    baked = npm.bake(f"{NPM}{files}run: ['{line.replace(chr(39), chr(39) * 2)}']\n")
    found = tree(npm.world, baked, "srv")
    assert found["srv/said"] == b"1.0.0 2.0.0\n"
    assert found["srv/app/node_modules/@acme/lib"] == "../../libs/lib"


def test_peers_that_do_not_fit_are_taken_where_it_is_said(npm: Npm) -> None:
    one = package({}, name="one", version="1.0.0", peerDependencies={"two": "^9.0.0"})
    write(npm, one=one, two=package({}, name="two", version="1.0.0"))
    path = npm.world.folder / "app/package-lock.json"
    lock = json.loads(path.read_text())
    lock["packages"]["node_modules/one"]["peerDependencies"] = {"two": "^9.0.0"}
    path.write_text(json.dumps(lock))
    with pytest.raises(StepFailed) as caught:
        npm.bake()
    assert "two" in caught.value.output
    found = tree(npm.world, npm.bake("npm: {from: app, to: /srv/app, legacy_peer_deps: true}\n"))
    assert "srv/app/node_modules/one/package.json" in found
