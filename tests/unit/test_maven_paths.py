"""Paths of a repository of Maven's, and its settings: what is read of them, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from instar.ecosystems.maven import ECOSYSTEM as MAVEN
from instar.ecosystems.maven import MavenProject
from instar.ecosystems.maven_paths import MavenPath, metadata_of
from instar.ecosystems.maven_repository import Repository
from instar.errors import DefinitionError, FetchError
from instar.model.digest import Digest
from instar.model.lock import Artifact


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("org/slf4j/slf4j-api/2.0.9/slf4j-api-2.0.9.jar", "jar"),
        ("org/slf4j/slf4j-api/2.0.9/slf4j-api-2.0.9.pom", "pom"),
        ("io/netty/netty-x/4.1.0.Final/netty-x-4.1.0.Final-linux-x86_64.jar", "linux-x86_64:jar"),
        ("org/x/dist/1.0/dist-1.0-bin.tar.gz", "bin:tar.gz"),
        ("org/x/dist/1.0/dist-1.0.tar.gz", "tar.gz"),
        ("junit/junit/4.13.2/junit-4.13.2.jar", "jar"),
    ],
)
def test_a_path_is_read_and_written_as_it_was(path: str, kind: str) -> None:
    found = MavenPath.parse(path)
    assert found is not None and found.kind == kind
    assert str(found) == path
    one = Artifact(
        ecosystem="maven",
        name=f"{found.group}/{found.name}",
        version=found.version,
        kind=kind,
        hash="sha256:0",
        sha256=Digest.of(b""),
    )
    assert str(MavenPath.of(one)) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "org/x/../y/1.0/y-1.0.jar",
        "org/x/y/1.0/z-1.0.jar",
        "org/x/y/1.0/y-2.0.jar",
        "org/x/y/1.0-SNAPSHOT/y-1.0-SNAPSHOT.jar",
        "y/1.0/y-1.0.jar",
        "org/x/y/1.0/y-1.0.jar/more",
        "org/x/y/1.0/y-1.0-a..b.jar",
        "org//y/1.0/y-1.0.jar",
        "org/x/y/1.0/y-1.0.jar\n",
        "org/x y/y/1.0/y-1.0.jar",
    ],
)
def test_what_is_no_file_of_a_version_is_none(path: str) -> None:
    assert MavenPath.parse(path) is None


def test_the_versions_that_a_repository_says_are_those_that_are_locked() -> None:
    def one(version: str, kind: str) -> Artifact:
        return Artifact(
            ecosystem="maven", name="org.x/y", version=version, kind=kind, hash="sha256:0", sha256=Digest.of(b"")
        )

    found = metadata_of([one("1.0", "jar"), one("1.0", "pom"), one("1.1", "pom")])
    assert list(found) == ["org/x/y/maven-metadata.xml"]
    text = found["org/x/y/maven-metadata.xml"].decode()
    assert "<release>1.1</release><versions><version>1.0</version><version>1.1</version></versions>" in text


def settings(folder: Path, text: str) -> Repository:
    (folder / ".m2").mkdir(exist_ok=True)
    (folder / ".m2/settings.xml").write_text(text)
    return Repository.of_this_machine({"HOME": str(folder), "TOKEN": "s3cret"})


MIRROR = """<settings xmlns="http://maven.apache.org/SETTINGS/1.0.0"><mirrors>
<mirror><id>other</id><mirrorOf>internal</mirrorOf><url>https://other.invalid/maven</url></mirror>
<mirror><id>own</id><mirrorOf>{of}</mirrorOf><url>https://maven.invalid/all/</url></mirror></mirrors>
<servers><server><id>own</id><username>ci</username><password>{password}</password></server></servers></settings>"""


@pytest.mark.parametrize("of", ["*", "central", "external:*", "*,!internal"])
def test_a_mirror_of_the_central_repository_is_asked_with_its_own_password(tmp_path: Path, of: str) -> None:
    found = settings(tmp_path, MIRROR.format(of=of, password="${env.TOKEN}"))
    assert found._at("a/b") == "https://maven.invalid/all/a/b"
    assert found._authorise("https://maven.invalid/all/a") == "Basic Y2k6czNjcmV0"
    assert found._authorise("https://other.invalid/all/a") is None
    assert found._authorise("http://maven.invalid/all/a") is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<settings>", "they are no XML"),
        ('<!DOCTYPE s [<!ENTITY a "b">]><settings/>', "a document type"),
        (MIRROR.format(of="*", password="{COQLCE6DU6GtcS5P=}"), "it is encrypted"),
    ],
)
def test_settings_that_cannot_be_read_are_told(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(FetchError, match=why):
        settings(tmp_path, text)


def test_what_is_asked_moves_with_every_pom_and_the_goals(tmp_path: Path) -> None:
    (tmp_path / "app/part/target").mkdir(parents=True)
    (tmp_path / "app/pom.xml").write_text("<project/>")
    use = MavenProject(source="app")
    first = MAVEN.read(tmp_path, use, "amd64").asked
    (tmp_path / "app/Main.java").write_text("class Main {}")
    (tmp_path / "app/part/target/pom.xml").write_text("<project/>")
    assert MAVEN.read(tmp_path, use, "amd64").asked == first
    assert MAVEN.read(tmp_path, MavenProject(source="app", goals=("verify",)), "amd64").asked != first
    (tmp_path / "app/part/pom.xml").write_text("<project/>")
    assert MAVEN.read(tmp_path, use, "amd64").asked != first
    (tmp_path / "app/part/pom.xml").unlink()
    (tmp_path / "app/part/pom.xml").symlink_to("/etc/passwd")
    with pytest.raises(DefinitionError, match="link"):
        MAVEN.read(tmp_path, use, "amd64")


def test_a_folder_without_a_pom_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=r"pom\.xml"):
        MAVEN.read(tmp_path, MavenProject(source="."), "amd64")
