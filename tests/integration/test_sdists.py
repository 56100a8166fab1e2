"""Source distributions of Python: found in an index, built by nobody in the sandbox without a network."""

from __future__ import annotations

import hashlib
import json
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from bake_kit import World
from local_archive import served
from npm_kit import NpmRegistry
from python_kit import Sandboxes, python_packages, sdist

from instar.definition.parts import image_of
from instar.errors import DefinitionError, FetchError, HashMismatch, ResolveError, StepFailed
from instar.fetch.requirements import read_requirements
from instar.fetch.target import WheelTarget
from instar.lock.from_source import build_missing, build_wheels
from instar.model.lock import Wheel
from instar.model.progress import silent

pytestmark = pytest.mark.root
TARGET = WheelTarget(python="3.11", architecture="amd64", glibc_minor=36)


class Author:
    def __init__(self, world: World, index: NpmRegistry) -> None:
        self.world, self.index, self.sandboxes = world, index, Sandboxes(world)
        self.stages = {"compile": world.lock(python_packages(world), bake_format=2)}
        self.publish(sdist())
        self.ask("acme==1.0\n")

    def publish(self, data: bytes) -> None:
        sha256 = hashlib.sha256(data).hexdigest()
        page = f'<a href="../../files/acme-1.0.tar.gz#sha256={sha256}">acme</a>'
        self.index.files |= {"/simple/acme/": page.encode(), "/files/acme-1.0.tar.gz": data}

    def ask(self, requirements: str) -> None:
        (self.world.folder / "requirements.txt").write_text(requirements)

    def build(self, *kept: Wheel) -> Wheel:
        loaded = self.world.load(
            "base: debian:test\npython: {requirements: requirements.txt, from_source: {compile: [acme]}}",
            build="compile: {base: debian:test, packages: [python3]}",
        )
        requirements = read_requirements(self.world.folder, "requirements.txt")
        known = {wheel.name: wheel for wheel in kept}
        where = (self.world.cache, self.sandboxes, silent)
        (wheel,) = build_wheels(image_of(loaded), requirements, TARGET, self.stages, known, *where)
        self.loaded = loaded
        return wheel

    def build_elsewhere(self, wheel: Wheel) -> None:
        """Build what is locked on another machine, which has nothing of it."""
        for one in (wheel.sha256, wheel.built.sha256 if wheel.built else wheel.sha256):
            path = self.world.cache.find(one)
            assert path is not None
            path.unlink()
        lock = self.world.lock([], [wheel], bake_format=2, build=self.stages)
        build_missing(self.loaded, lock, self.world.cache, self.sandboxes, silent)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("world"))
    yield world
    world.close()


@pytest.fixture
def author(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Author]:
    index = NpmRegistry()
    with served(tmp_path, index.handler) as address:
        index.address = address
        for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        monkeypatch.setenv("PIP_INDEX_URL", f"{address.replace('://', '://ci:s3cret@')}/simple")
        monkeypatch.setenv("HOME", str(tmp_path))
        yield Author(world, index)


def test_a_wheel_is_built_once_and_the_same_elsewhere(author: Author) -> None:
    wheel = author.build()
    assert (wheel.filename, wheel.built and wheel.built.filename) == ("acme-1.0-py3-none-any.whl", "acme-1.0.tar.gz")
    with zipfile.ZipFile(author.world.cache.verify(wheel.sha256)) as made:
        assert made.read("acme/__init__.py") == b"VALUE = 1\n"
    count = author.sandboxes.opened
    assert author.build(wheel) == wheel
    assert author.sandboxes.opened == count
    author.build_elsewhere(wheel)
    assert author.world.cache.is_whole(wheel.sha256)
    assert {who for path, who in author.index.asked if path.startswith("/simple")} == {"Basic Y2k6czNjcmV0"}


def test_what_is_built_of_the_same_differently_is_not_used(author: Author) -> None:
    author.publish(sdist(value='" + os.urandom(8).hex() + "'))
    wheel = author.build()
    with pytest.raises(HashMismatch, match="what is built of"):
        author.build_elsewhere(wheel)


@pytest.mark.parametrize(
    "hook",
    [
        "import urllib.request; urllib.request.urlopen('http://registry.invalid/')",
        "import socket; socket.create_connection(('127.0.0.1', 80))",
        "import socket; socket.create_connection(('192.0.2.1', 80))",
    ],
)
def test_what_wants_the_network_is_told_that_there_is_none(author: Author, hook: str) -> None:
    author.publish(sdist(hook))
    with pytest.raises(StepFailed, match="it wants something of the network"):
        author.build()


@pytest.mark.parametrize(
    "hook",
    [
        "assert os.getuid() == 65534; open('/etc/made', 'w')",
        "os.setuid(0)",
        "open('/run/instar/source/runner.py', 'w')",
        "os.mkdir('/srv/made')",
        "raise SystemExit(3)",
        "return '../../etc/passwd'",
        "return 'acme-2.0-py3-none-any.whl'",
        "os.symlink('/etc/passwd', folder + '/a-1-py3-none-any.whl'); return 'a-1-py3-none-any.whl'",
        "open(folder + '/a-1-py3-none-any.whl', 'w').write('no'); return 'a-1-py3-none-any.whl'",
        "os.rename('/build/out', '/build/other'); os.symlink('/etc', '/build/out'); return 'passwd-1-b-c.whl'",
        "os.symlink('/etc/passwd', '/build/answer.json'); return 'acme-1.0-py3-none-any.whl'",
    ],
)
def test_a_hostile_backend_gets_nowhere(author: Author, hook: str) -> None:
    author.publish(sdist(hook))
    with pytest.raises(StepFailed, match="cannot build 'acme"):
        author.build()
    assert author.world.work_left() == []


def test_a_backend_sees_nothing_of_the_machine(author: Author, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_SECRET", "s3cret")
    seen = "assert 'ACME_SECRET' not in os.environ and not pathlib.Path('/root').joinpath('.netrc').exists()"
    author.publish(sdist(f"{seen} and [p for p in os.listdir('/proc') if p.isdigit()] == ['1'], os.listdir('/proc')"))
    assert author.build().name == "acme"


def link(name: str, to: str) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = tarfile.SYMTYPE, to
    return made


def device(name: str) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.devmajor, made.devminor = tarfile.BLKTYPE, 8, 0
    return made


@pytest.mark.parametrize(
    "data",
    [
        b"no archive",
        sdist()[:200],
        sdist(files={"other/file": b""}),
        sdist(files={"../file": b""}),
        sdist(files={"acme-1.0/pyproject.toml": b"no = toml = "}),
        sdist(files={"acme-1.0/pyproject.toml": b"build-system = 1\n"}),
        sdist(files={"acme-1.0/pyproject.toml": b"\xff"}),
    ],
)
def test_what_is_no_source_distribution_is_refused(author: Author, data: bytes) -> None:
    author.publish(data)
    with pytest.raises(ResolveError, match="cannot use the source distribution"):
        author.build()


@pytest.mark.parametrize(
    "files",
    [
        {"acme-1.0/../../../srv/file": b""},
        {"acme-1.0/device": device("acme-1.0/device")},
        {"acme-1.0/out": link("acme-1.0/out", "/srv"), "acme-1.0/out/file": b""},
    ],
)
def test_an_archive_that_leads_out_leads_to_nothing(author: Author, files: dict[str, bytes | tarfile.TarInfo]) -> None:
    author.publish(sdist(files=files))
    with pytest.raises(StepFailed, match="cannot build 'acme"):
        author.build()


def test_the_index_says_what_it_has(author: Author) -> None:
    author.ask("acme==2.0\n")
    with pytest.raises(FetchError, match="of it has no source distribution"):
        author.build()
    author.ask("acme==1.0\n")
    author.index.files["/files/acme-1.0.tar.gz"] = sdist(value="2")
    with pytest.raises(HashMismatch, match="another file"):
        author.build()
    author.index.statuses["/simple/acme/"] = 401
    with pytest.raises(FetchError, match="refuses the password") as caught:
        author.build()
    assert "s3cret" not in str(caught.value)
    author.index.statuses.clear()
    author.index.files.clear()
    with pytest.raises(FetchError, match="no index that is asked"):
        author.build()


def test_a_page_of_json_is_read_as_one_of_html(author: Author) -> None:
    data = sdist()
    known = {"sha256": hashlib.sha256(data).hexdigest()}
    entry = {"filename": "acme-1.0.tar.gz", "url": "/files/acme-1.0.tar.gz", "hashes": known}
    author.index.files["/simple/acme/"] = json.dumps({"meta": {"api-version": "1.0"}, "files": [entry]}).encode()
    assert author.build().built is not None


@pytest.mark.parametrize("wish", ["acme\n", "acme>=1.0\n", "acme==1.*\n", "acme==1.0,<2\n", "other==1.0\n"])
def test_a_version_has_to_be_named(author: Author, wish: str) -> None:
    author.ask(wish)
    with pytest.raises(DefinitionError, match="acme==VERSION"):
        author.build()


def test_a_hash_of_the_requirements_is_that_of_the_source(author: Author) -> None:
    author.ask(f"acme==1.0 --hash=sha256:{hashlib.sha256(sdist()).hexdigest()}\n")
    assert author.build().built is not None
    author.ask(f"acme==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(ResolveError, match="not a hash that is written there"):
        author.build()


def test_another_stage_builds_anew(author: Author) -> None:
    wheel = author.build()
    count = author.sandboxes.opened
    author.stages = {"compile": author.world.lock(python_packages(author.world, "srv/more"), bake_format=2)}
    again = author.build(wheel)
    assert author.sandboxes.opened == count + 1
    assert (again.sha256, again.built == wheel.built) == (wheel.sha256, False)
