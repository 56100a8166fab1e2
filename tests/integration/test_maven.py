"""Maven's files from a repository on loopback: found out while locking through one door, and there for the lines alone.

What stands for Maven is a program that asks as Maven does; the real one is in tests/acceptance/test_ecosystems.py.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from bake_kit import World, deb
from local_archive import served
from npm_kit import NpmRegistry
from python_kit import Sandboxes, python_packages

from instar.definition import Loaded
from instar.definition.parts import parts_of
from instar.errors import DefinitionError, FetchError, StepFailed
from instar.lock.artifacts import moved_artifacts, with_resolved
from instar.model.lock import Lock
from instar.model.progress import silent

pytestmark = pytest.mark.root

MVN = """\
#!/usr/bin/python3
import os, re, sys, urllib.error, urllib.request
assert os.getuid() == 65534 and "s3cret" not in str(os.environ)
settings = open(sys.argv[sys.argv.index("-s") + 1]).read()
url = re.search("<url>(.*)</url>", settings)[1]
assert "s3cret" not in settings
for path in open("pom.xml").read().split():
    try:
        data = urllib.request.urlopen(path if "://" in path else f"{url}/{path}", timeout=10).read()
        print(path, len(data))
    except urllib.error.HTTPError as error:
        print(path, error.code)
        if "strict" in sys.argv:
            sys.exit(1)
"""
JAR = "org/acme/core/1.0/core-1.0.jar"
LINE = "cat /run/instar/maven/org/acme/core/1.0/core-1.0.jar /run/instar/maven/org/acme/core/maven-metadata.xml"


class Author:
    def __init__(self, world: World, repository: NpmRegistry) -> None:
        self.world, self.repository, self.sandboxes = world, repository, Sandboxes(world)
        repository.files[f"/{JAR}"] = b"a jar"
        mvn = deb("mvn", {"./": None, "usr/": None, "usr/bin/": None, "usr/bin/mvn": MVN.encode()},
                  executable=["usr/bin/mvn"])  # fmt: skip
        self.packages = [*python_packages(world), world.package("mvn", mvn)]
        self.write(JAR)

    def write(self, *paths: str) -> None:
        (self.world.folder / "app").mkdir(exist_ok=True)
        (self.world.folder / "app/pom.xml").write_text("\n".join(paths))

    def load(self, files: str = "[{from: app, to: /src}]", goals: str = "[package]") -> Loaded:
        return self.world.load(
            f"base: debian:test\npackages: [python3, mvn]\nmaven: {{from: app, goals: {goals}}}\nfiles: {files}\n"
            f"run: ['{LINE} > /srv/seen; echo $MAVEN_OPTS >> /srv/seen']\n"
        )

    def lock(self, kept: Lock | None = None, **how: str) -> Lock:
        part = parts_of(self.load(**how))[-1]
        lock = self.world.lock(self.packages, bake_format=2)
        return with_resolved(part, lock, kept, {}, self.world.cache, self.sandboxes, silent)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("world"))
    yield world
    world.close()


@pytest.fixture
def author(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Author]:
    repository = NpmRegistry()
    with served(tmp_path, repository.handler) as address:
        repository.address = address
        (tmp_path / ".m2").mkdir()
        (tmp_path / ".m2/settings.xml").write_text(
            f"<settings><mirrors><mirror><id>own</id><mirrorOf>*</mirrorOf><url>{address}</url></mirror></mirrors>"
            "<servers><server><id>own</id><username>ci</username><password>s3cret</password></server></servers></settings>"
        )
        monkeypatch.setenv("HOME", str(tmp_path))
        yield Author(world, repository)


def test_what_maven_asks_for_is_locked_and_there_for_the_lines(author: Author) -> None:
    author.write(JAR, f"{JAR}.sha1", "org/acme/core/maven-metadata.xml", "org/acme/none/1.0/none-1.0.jar")
    author.repository.files["/org/acme/core/maven-metadata.xml"] = b"<metadata/>"
    lock = author.lock()
    (one,) = lock.artifacts
    assert (one.name, one.version, one.kind) == ("org.acme/core", "1.0", "jar")
    assert one.sha256.hex == hashlib.sha256(b"a jar").hexdigest()
    assert {who for _, who in author.repository.asked} == {"Basic Y2k6czNjcmV0"}
    assert list(moved_artifacts(lock, parts_of(author.load())[-1], "instar.lock")) == []
    loaded = author.load()
    image = author.world.bake(loaded, lock).image
    with author.world.mounted(image) as root:
        seen = (root / "srv/seen").read_text()
        assert seen.startswith("a jar<metadata><groupId>org.acme</groupId>") and "-Duser.home=/tmp/maven" in seen
        assert not (root / "run/instar/maven").exists()


def test_nothing_is_asked_again_until_a_pom_or_a_goal_is_another(author: Author) -> None:
    lock = author.lock()
    count = author.sandboxes.opened
    assert author.lock(lock) == lock
    assert author.sandboxes.opened == count
    (line,) = moved_artifacts(lock, parts_of(author.load(goals="[verify]"))[-1], "instar.lock")
    assert "what is to be built is not what it was" in line
    author.lock(lock, goals="[verify]")
    assert author.sandboxes.opened == count + 1


@pytest.mark.parametrize(
    "path", ["http://127.0.0.1:80/", "http://192.0.2.1/", "http://registry.invalid/", "http://[::1]:80/"]
)
def test_there_is_no_way_out_but_the_door(author: Author, path: str) -> None:
    author.write(path)
    with pytest.raises(StepFailed, match="it wants something of the network"):
        author.lock()


@pytest.mark.parametrize("path", ["../../etc/passwd", "org/acme/../../secret", "%2e%2e/secret", "simple/acme/"])
def test_the_door_leads_to_files_of_versions_alone(author: Author, path: str) -> None:
    author.write(path)
    author.repository.files["/secret"] = author.repository.files["/simple/acme/"] = b"secret"
    assert author.lock().artifacts == ()
    assert author.repository.asked == []


@pytest.mark.parametrize(("status", "why"), [(401, "refuses the pass"), (403, "refuses the pass"), (500, "500")])
def test_a_repository_that_refuses_is_told_with_its_answer(author: Author, status: int, why: str) -> None:
    author.repository.statuses[f"/{JAR}"] = status
    with pytest.raises(FetchError, match=why) as caught:
        author.lock(goals="[strict]")
    assert "s3cret" not in str(caught.value)


def test_what_the_repository_has_not_is_mavens_to_tell(author: Author) -> None:
    author.write("org/acme/gone/1.0/gone-1.0.jar")
    with pytest.raises(StepFailed, match="cannot lock 'maven app'") as caught:
        author.lock(goals="[strict]")
    assert "gone-1.0.jar 404" in caught.value.output


@pytest.mark.parametrize(
    "files", ["[{from: ., to: /src}]", "[{from: app/pom.xml, to: /app/pom.xml}]", "[{from: app, to: /a/b}]"]
)
def test_the_project_is_found_where_files_bring_it(author: Author, files: str) -> None:
    assert [one.name for one in author.lock(files=files).artifacts] == ["org.acme/core"]


def test_a_project_at_the_top_of_the_stage_is_refused(author: Author) -> None:
    with pytest.raises(DefinitionError, match="a folder of its own"):
        author.lock(files="[{from: app/pom.xml, to: /pom.xml}]")


def test_a_project_that_nothing_brings_is_refused(author: Author) -> None:
    with pytest.raises(DefinitionError, match="nothing brings 'app' here"):
        author.lock(files="[{from: other, to: /src}]")


def test_a_stage_without_maven_says_what_to_add(author: Author) -> None:
    author.packages = author.packages[:1]
    author.world.load("base: debian:test")
    lock = author.world.lock(author.packages, bake_format=2)
    part = parts_of(author.load())[-1]
    with pytest.raises(StepFailed) as caught:
        with_resolved(part, dataclasses.replace(lock), None, {}, author.world.cache, author.sandboxes, silent)
    assert "there is no mvn in the stage" in caught.value.output
