"""Locking npm's packages against a registry on loopback: what is asked of whom, and what a registry can do wrong."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from npm_kit import NpmRegistry, integrity, npm_registry, package, write_project

from instar.definition import parse
from instar.definition.parts import ImagePart, image_of
from instar.ecosystems.download import Downloads, Missing
from instar.ecosystems.fetching import batches
from instar.ecosystems.npm_registry import Registry, read_configuration
from instar.ecosystems.protocol import WantedFile
from instar.errors import ComponentMissing, FetchError, HashMismatch, InstarError, SourceUnreachable
from instar.fetch.cache import Cache
from instar.lock.artifacts import lock_artifacts, moved_artifacts
from instar.lock.changes import changes
from instar.lock.file import read, write
from instar.lock.written import dump
from instar.model.digest import Digest
from instar.model.lock import Artifact, Lock, Requested
from instar.model.progress import Progress

ONE = package({"package/index.js": b"module.exports = 1\n"}, name="one", version="1.0.0")
SCOPED = package({}, name="@team/two", version="2.0.0")


class Author:
    def __init__(self, folder: Path, registry: NpmRegistry) -> None:
        self.folder, self.registry = folder, registry
        self.cache = Cache(folder / "cache")
        self.said: list[Progress] = []
        self.more = ""

    def part(self) -> ImagePart:
        text = (
            "name: web\nimage:\n  base: debian:bookworm\n  npm: {from: app, to: /srv/app" + self.more + "}\n"
            'service: {command: [sleep, "1"]}\nenvironments: {dev: {}}\n'
        )
        return image_of(parse(text, str(self.folder / "instar.yaml")))

    def lock(self, *known: Artifact) -> tuple[Artifact, ...]:
        return lock_artifacts(self.part(), known, "amd64", self.cache, self.said.append)

    def wrong(self) -> InstarError:
        with pytest.raises(InstarError) as caught:
            self.lock()
        assert not list((self.folder / "cache" / "sha256").glob("*")), "nothing of it is kept"
        assert "t0k3n" not in str(caught.value)
        return caught.value


@pytest.fixture
def author(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Author]:
    with npm_registry(tmp_path) as registry:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("npm_config_globalconfig", "/nonexistent")
        host = registry.address.removeprefix("http:")
        (tmp_path / ".npmrc").write_text(f"registry={registry.address}\n{host}/:_authToken=t0k3n\n")
        patient = Downloads.__init__.__kwdefaults__["patience"]
        impatient = dataclasses.replace(patient, first_pause_s=0.01)
        monkeypatch.setitem(Downloads.__init__.__kwdefaults__, "patience", impatient)
        entries = {
            "one": registry.publish("one", "1.0.0", ONE),
            "@team/two": registry.publish("@team/two", "2.0.0", SCOPED),
        }
        write_project(tmp_path, entries)
        yield Author(tmp_path, registry)


def test_each_file_is_fetched_from_the_machines_registry_once_and_known_by_its_hash(author: Author) -> None:
    locked = author.lock()
    assert [(one.ecosystem, one.name, one.version, one.sha256) for one in locked] == [
        ("npm", "@team/two", "2.0.0", Digest.of(SCOPED)),
        ("npm", "one", "1.0.0", Digest.of(ONE)),
    ]
    assert sorted(author.registry.asked) == [
        ("/@team/two/-/two-2.0.0.tgz", "Bearer t0k3n"),
        ("/one/-/one-1.0.0.tgz", "Bearer t0k3n"),
    ]
    assert author.lock(*locked) == locked
    assert len(author.registry.asked) == 2, "what is locked is not asked for again"


def test_a_machine_that_has_the_lock_alone_fetches_the_same(author: Author, tmp_path: Path) -> None:
    locked, elsewhere = author.lock(), Cache(tmp_path / "elsewhere")
    for batch in batches(locked, elsewhere):
        batch.fetch()
    assert set(elsewhere.sizes()) == {one.sha256 for one in locked}


def test_a_registry_with_addresses_of_its_own_is_asked_for_them(author: Author) -> None:
    data = author.registry.files.pop("/one/-/one-1.0.0.tgz")
    author.registry.files["/download/one"] = data
    page = {"versions": {"1.0.0": {"dist": {"tarball": f"{author.registry.address}/download/one"}}}}
    author.registry.files["/one"] = json.dumps(page).encode()
    assert author.lock()[1].sha256 == Digest.of(ONE)


def test_no_password_goes_on_to_another_host(author: Author, tmp_path: Path) -> None:
    with npm_registry(tmp_path) as other:
        other.files["/one"] = author.registry.files.pop("/one/-/one-1.0.0.tgz")
        author.registry.redirects["/one/-/one-1.0.0.tgz"] = f"{other.address}/one"
        assert author.lock()[1].sha256 == Digest.of(ONE)
        assert other.asked == [("/one", None)]


def test_other_bytes_than_the_lock_file_says_are_refused(author: Author) -> None:
    author.registry.files["/one/-/one-1.0.0.tgz"] = author.registry.files["/@team/two/-/two-2.0.0.tgz"] = SCOPED[:-9]
    error = author.wrong()
    assert isinstance(error, HashMismatch)
    assert "sends is another file: its hash is not the one that package-lock.json has" in error.message


@pytest.mark.parametrize(
    ("status", "kind", "told"),
    [
        (401, FetchError, "refuses the password that this machine has for it (it answers 401)"),
        (403, FetchError, "refuses the password"),
        (404, FetchError, "cannot fetch 'one' 1.0.0: '127.0.0.1:"),
        (418, FetchError, "answers 418"),
        (503, SourceUnreachable, "answers 503"),
    ],
)
def test_a_registry_that_does_not_give_it(author: Author, status: int, kind: type[InstarError], told: str) -> None:
    del author.registry.files["/@team/two/-/two-2.0.0.tgz"]
    author.registry.redirects["/@team/two/-/two-2.0.0.tgz"] = "/one/-/one-1.0.0.tgz"
    author.registry.statuses["/one/-/one-1.0.0.tgz"] = status
    with pytest.raises(InstarError) as caught:
        author.lock()
    assert isinstance(caught.value, kind)
    assert told in caught.value.message.replace("'@team/two' 2.0.0", "'one' 1.0.0")
    assert "~/.npmrc" in (caught.value.hint or "")


def test_a_registry_without_the_version(author: Author) -> None:
    del author.registry.files["/one/-/one-1.0.0.tgz"]
    author.registry.files["/one"] = b'{"versions": {"2.0.0": {}}}'
    with pytest.raises(FetchError, match=r"cannot fetch 'one' 1\.0\.0: '127\.0\.0\.1' has no such version"):
        author.lock()


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://any.example/a", "//user:word@127.0.0.1/a", "http://["])
def test_a_registry_that_sends_us_where_nobody_should_go(author: Author, to: str) -> None:
    author.registry.redirects["/one/-/one-1.0.0.tgz"] = to
    with pytest.raises(FetchError, match="its registry's address is none that can be asked"):
        author.lock()


def test_no_password_goes_without_tls_where_a_registry_says_so(
    author: Author, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What answers here without TLS is the same host and port as the registry's: whoever listens on the way."""
    host = author.registry.address.removeprefix("http:")
    (tmp_path / ".npmrc").write_text(f"registry=https:{host}\n{host}/:_authToken=t0k3n\n")
    page = json.dumps({"versions": {"1.0.0": {"dist": {"tarball": f"http:{host}/one"}}}}).encode()
    keep = Downloads.keep

    def over_tls(downloads: Downloads, url: str, what: str, *more: Any) -> Digest:
        if url.startswith("https:"):
            raise Missing(f"cannot fetch {what}: it is not there")
        return keep(downloads, url, what, *more)

    monkeypatch.setattr(Downloads, "page", lambda *words, **more: page)
    monkeypatch.setattr(Downloads, "keep", over_tls)
    author.registry.files["/one"] = ONE
    registry = Registry(read_configuration({"HOME": str(tmp_path)}))
    wanted = WantedFile(ecosystem="npm", name="one", version="1.0.0", hash=integrity(ONE))
    with pytest.raises(FetchError, match=r"cannot fetch 'one' 1\.0\.0: '.*' sends us to '.*', without TLS"):
        registry.bring(wanted, author.cache, None)
    assert author.registry.asked == []


def test_a_registry_that_sends_us_in_circles(author: Author) -> None:
    author.registry.redirects["/one/-/one-1.0.0.tgz"] = "/one/-/one-1.0.0.tgz"
    with pytest.raises(FetchError, match="sends us from one address to the next without an end"):
        author.lock()


def test_no_registry_is_configured(author: Author, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".npmrc").write_text("")
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ComponentMissing, match="none is configured, and this machine has no npm") as caught:
        author.lock()
    assert "registry=ADDRESS" in (caught.value.hint or "")


def test_a_lock_that_no_longer_fits_names_what_moved(author: Author) -> None:
    locked = author.lock()
    lock = Lock(
        bake_format=2, architecture="amd64", requested=Requested(base="debian:bookworm"), suites=(), packages=(),
        artifacts=locked,
    )  # fmt: skip
    assert list(moved_artifacts(lock, author.part(), "instar.lock")) == []
    second = dataclasses.replace(locked[1], hash=locked[0].hash)
    assert list(
        moved_artifacts(dataclasses.replace(lock, artifacts=(*locked, second)), author.part(), "instar.lock")
    ) == ["instar.lock: npm: 'one 1.0.0' is there, and nothing asks for it"]
    assert list(
        moved_artifacts(dataclasses.replace(lock, artifacts=(locked[0], second)), author.part(), "instar.lock")
    ) == ["app/package-lock.json:1: npm: 'one 1.0.0' is another file than in instar.lock"]
    newer = package({}, name="one", version="1.1.0")
    write_project(author.folder, {"one": author.registry.publish("one", "1.1.0", newer)})
    assert list(moved_artifacts(lock, author.part(), "instar.lock")) == [
        "app/package-lock.json:1: npm: 'one 1.1.0' is not in instar.lock",
        "instar.lock: npm: '@team/two 2.0.0' is there, and nothing asks for it",
        "instar.lock: npm: 'one 1.0.0' is there, and nothing asks for it",
    ]
    now = dataclasses.replace(lock, artifacts=author.lock(*locked))
    assert [str(one) for one in changes(lock, now)] == ["- npm @team/two 2.0.0", "  npm one 1.0.0 → 1.1.0"]


@pytest.mark.parametrize(("user", "said"), [("", "Bearer s3cret"), (", user: ci", "Basic Y2k6czNjcmV0")])
def test_packages_come_from_the_index_that_the_definition_names(
    author: Author, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: str, said: str
) -> None:
    with npm_registry(tmp_path) as own:
        own.files["/npm/@team/two/-/two-2.0.0.tgz"] = author.registry.files.pop("/@team/two/-/two-2.0.0.tgz")
        (tmp_path / "password").write_text("s3cret\n")
        (tmp_path / "password").chmod(0o600)
        login = f"{user}, password: {tmp_path / 'password'}"
        (tmp_path / "machine.yaml").write_text(f"indexes:\n  internal: {{url: '{own.address}/npm/'{login}}}\n")
        monkeypatch.setenv("INSTAR_CONFIG", str(tmp_path / "machine.yaml"))
        author.more = ", indexes: {internal: ['@team/*']}"
        two, one = author.lock()
        assert (two.name, two.index, one.index) == ("@team/two", "internal", None)
        assert own.asked == [("/npm/@team/two/-/two-2.0.0.tgz", said)]
        assert ("/@team/two/-/two-2.0.0.tgz", "Bearer t0k3n") not in author.registry.asked
        for batch in batches((two,), Cache(tmp_path / "another machine's")):
            batch.fetch()
        lock = Lock(
            bake_format=2, architecture="amd64", requested=Requested(base="debian:bookworm"), suites=(), packages=(),
            artifacts=(two, one),
        )  # fmt: skip
        write(tmp_path / "instar.lock", lock)
        assert read(tmp_path / "instar.lock").artifacts == (two, one)
        assert "s3cret" not in (tmp_path / "instar.lock").read_text() and "127.0.0.1" not in dump(lock)
        author.more = ", index: other"
        assert [line for line in moved_artifacts(lock, author.part(), "instar.lock") if "another index" in line]
        with pytest.raises(FetchError, match="cannot find the index 'other'"):
            author.lock()
        own.statuses["/npm/@team/two/-/two-2.0.0.tgz"] = 401
        author.more = ", indexes: {internal: ['@team/*']}"
        author.cache = Cache(tmp_path / "third")
        with pytest.raises(FetchError, match="refuses the password") as caught:
            author.lock()
        assert "s3cret" not in f"{caught.value}{caught.value.hint}"
        assert "indexes.internal in this machine's own file" in (caught.value.hint or "")
