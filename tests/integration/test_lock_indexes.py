"""Indexes that a definition names: what comes from which, whom they let in, where no password goes. Real uv and pip."""

from __future__ import annotations

import base64
import hashlib
import http.server
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from local_archive import make_wheel, served
from lock_author import Author, author_in

from instar.definition import load
from instar.errors import FetchError, HostError, InstarError, LockStale, ResolveError, SourceUnreachable
from instar.fetch.cache import Cache
from instar.fetch.fetch import fetch_all
from instar.lock.file import read, write
from instar.lock.fit import require_fit
from instar.model.lock import Lock
from instar.model.progress import silent

PASSWORD = "s3cr3t/of:the@index"


class Handler(http.server.SimpleHTTPRequestHandler):
    """Lets nobody into /internal without the password, and notes what it is told of passwords."""

    def __init__(self, *args: Any, notes: list[tuple[str, str]], **more: Any) -> None:
        self.notes = notes
        super().__init__(*args, **more)

    def do_GET(self) -> None:
        said = self.headers.get("Authorization", "")
        if said:
            self.notes.append((self.headers["Host"], self.path))
        expected = "Basic " + base64.b64encode(f"ci:{PASSWORD}".encode()).decode()
        if self.path.startswith("/internal") and said != expected:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="index"')
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


class World:
    """A public index and a private one on one host, and another host; a definition, and this machine's own file."""

    def __init__(self, author: Author, folder: Path, address: str, other: str, notes: list[tuple[str, str]]) -> None:
        self.author, self.folder, self.address, self.other, self.notes = author, folder, address, other, notes

    def publish(self, index: str, project: str, version: str, *, requires: str = "", elsewhere: bool = False) -> None:
        page = self.folder / index / "simple" / project
        page.mkdir(parents=True, exist_ok=True)
        place = self.folder / "elsewhere" if elsewhere else page
        place.mkdir(exist_ok=True)
        wheel = make_wheel(place, project.replace("-", "_"), version, requires=requires)
        link = f"{self.other}/elsewhere/{wheel.name}" if elsewhere else wheel.name
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        with (page / "index.html").open("a") as file:
            file.write(f'<a href="{link}#sha256={digest}">{wheel.name}</a>\n')

    def machine(self, *, password: str | None = PASSWORD, mode: int = 0o600) -> None:
        file = self.author.folder / "password"
        file.write_text(f"{password}\n")
        file.chmod(mode)
        login = f", user: ci, password: {file}" if password else ""
        (self.author.folder / "machine.yaml").write_text(
            f"indexes:\n  internal: {{url: '{self.address}/internal/simple'{login}}}\n"
        )

    def wish(self, requirements: str, how: str = "index: internal") -> None:
        self.author.write(python=requirements)
        definition = self.author.folder / "instar.yaml"
        section = f"python: {{requirements: requirements.txt, {how}}}"
        definition.write_text(definition.read_text().replace("python: requirements.txt", section))

    def lock(self, previous: Lock | None = None, **more: Any) -> Lock:
        return self.author.lock(previous, **more)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    folder, notes = tmp_path / "indexes", list[tuple[str, str]]()
    folder.mkdir()
    handler = partial(Handler, directory=str(folder), notes=notes)
    with author_in(tmp_path) as author, served(folder, handler) as address, served(folder, handler) as other:
        for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PIP_INDEX_URL", f"{address}/public/simple")
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        monkeypatch.setenv("INSTAR_CONFIG", str(tmp_path / "machine.yaml"))
        made = World(author, folder, address, other, notes)
        made.publish("internal", "acme-core", "1.0", requires="flask")
        made.publish("public", "flask", "3.0")
        made.machine()
        yield made


def origins(lock: Lock) -> dict[str, tuple[str, str | None]]:
    return {wheel.name: (wheel.version, wheel.index) for wheel in lock.wheels}


def test_what_is_named_comes_from_its_index_and_from_nowhere_else(world: World, tmp_path: Path) -> None:
    world.publish("public", "acme-core", "9.0")
    world.wish("acme-core\n", "indexes: {internal: ['acme-*']}")
    lock = world.lock()
    assert origins(lock) == {"acme-core": ("1.0", "internal"), "flask": ("3.0", None)}
    file = tmp_path / "instar.lock"
    write(file, lock)
    assert read(file) == lock
    assert world.lock(lock) == lock
    cache = Cache(tmp_path / "other cache")
    fetch_all(lock, load(tmp_path / "instar.yaml").definition, cache, silent)
    assert all(cache.is_whole(wheel.sha256) for wheel in lock.wheels)
    assert world.notes and all(path.startswith("/internal/") for _, path in world.notes)


def test_no_password_is_written_anywhere_or_sent_to_another_host(world: World, tmp_path: Path) -> None:
    world.publish("internal", "acme-far", "1.0", elsewhere=True)
    world.wish("acme-far\n", "indexes: {internal: ['acme-*']}")
    lock = world.lock()
    write(tmp_path / "instar.lock", lock)
    fetch_all(lock, load(tmp_path / "instar.yaml").definition, Cache(tmp_path / "other cache"), silent)
    own = world.address.removeprefix("http://")
    assert world.notes and {host for host, _ in world.notes} == {own}
    secret = {PASSWORD.encode(), base64.b64encode(f"ci:{PASSWORD}".encode()), b"s3cr3t"}
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "password"]
    assert [path for path in files if any(one in path.read_bytes() for one in secret)] == []


def test_one_that_is_missing_from_its_index_is_not_taken_from_the_public_one(world: World) -> None:
    world.publish("public", "acme-new", "1.0")
    world.wish("acme-new\n", "indexes: {internal: [acme-new]}")
    with pytest.raises(ResolveError, match="'acme-new': it has to come from the index 'internal', which does not have"):
        world.lock()


def test_what_came_from_an_index_does_not_come_from_another_later(world: World) -> None:
    world.publish("internal", "helper", "1.0")
    world.publish("public", "helper", "2.0")
    world.wish("helper\n", "indexes: {internal: ['acme-*']}")
    lock = world.lock()
    assert origins(lock) == {"helper": ("1.0", "internal")}
    for file in (world.folder / "internal/simple/helper").iterdir():
        file.unlink()
    (world.folder / "internal/simple/helper").rmdir()
    shutil.rmtree(world.author.folder / "the cache/uv")  # of another machine, or ten minutes later
    with pytest.raises(ResolveError, match="'helper': it came from the index 'internal' when it was locked"):
        world.lock(lock, update=frozenset(["helper"]))


def test_with_one_index_for_all_no_other_is_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"{world.address}/public/simple")
    world.wish("acme-core\n")
    with pytest.raises(ResolveError, match="needs 'flask', and no index that this machine asks has it"):
        world.lock()
    world.publish("internal", "flask", "2.0")
    assert origins(world.lock()) == {"acme-core": ("1.0", "internal"), "flask": ("2.0", "internal")}


@pytest.mark.parametrize("password", [None, "another"])
def test_an_index_that_lets_nobody_in_is_told_by_its_name(world: World, password: str | None) -> None:
    world.publish("public", "acme-core", "9.0")
    world.wish("acme-core\n", "indexes: {internal: [acme-core]}")
    lock = world.lock()
    world.machine(password=password)
    why = "it wants a password" if password is None else "it does not take the password that there is"
    with pytest.raises(FetchError, match=f"the index 'internal' answers 401: {why}") as caught:
        world.lock(None)
    assert caught.value.exit_status == 1
    assert "another" not in str(caught.value.message)
    loaded = load(world.author.folder / "instar.yaml")
    with pytest.raises(FetchError, match=r"cannot fetch 'acme_core-1.0-.*': the index 'internal' has no 'acme-core'"):
        fetch_all(lock, loaded.definition, Cache(world.author.folder / "other cache"), silent)


def test_an_index_that_this_machine_does_not_know(world: World) -> None:
    world.wish("acme-core\n", "index: intern")
    with pytest.raises(FetchError, match=r"cannot find the index 'intern': .* \(it has internal\)") as caught:
        world.lock()
    assert "indexes.intern.url" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("password", "mode", "told"),
    [
        (PASSWORD, 0o604, "everybody on this machine may read it"),
        ("two\nlines", 0o600, "it is not one line with a password"),
        ("x" * 20_000, 0o600, "it is not one line with a password"),
    ],
)
def test_the_file_of_a_password_is_one_that_can_be_used(world: World, password: str, mode: int, told: str) -> None:
    world.machine(password=password, mode=mode)
    world.wish("acme-core\n")
    with pytest.raises(HostError, match=f"cannot use the password of the index 'internal': '.*': {told}") as caught:
        world.lock()
    assert password[:5] not in str(caught.value)


def test_other_sources_make_the_lock_stale(world: World, tmp_path: Path) -> None:
    world.wish("acme-core\n", "indexes: {internal: [acme-core]}")
    lock = world.lock()
    world.wish("acme-core\n", "indexes: {internal: ['acme-*']}")
    with pytest.raises(LockStale, match="other projects come from other indexes than when locked"):
        require_fit(lock, load(tmp_path / "instar.yaml"))
    file = tmp_path / "instar.lock"
    write(file, lock)
    file.write_text(file.read_text().replace('"index": "internal"', '"index": "other"'))
    with pytest.raises(InstarError, match="the index 'other' is none that was asked for"):
        read(file)


def test_a_definition_says_neither_address_nor_password(world: World) -> None:
    for how, told in (
        ("index: 'https://ann:pw@x.example/simple'", "python.index: expected a name of a-z"),
        ("url: https://x.example", "where an index is, and who may ask it, is this machine's"),
        ("indexes: {internal: ['*']}", "the index that all comes from is 'index'"),
        ("indexes: {internal: [a], other: [a]}", "'a' comes from 'internal' and from 'other'"),
        ("index: a, indexes: {a: [b]}", "'index' says that all else comes from 'a'; remove it here"),
    ):
        world.wish("acme-core\n", how)
        with pytest.raises(InstarError, match=r"instar\.yaml:5:\d+: image\.python") as caught:
            load(world.author.folder / "instar.yaml")
        assert told in str(caught.value)


def issue(folder: Path, pem: Path) -> tuple[Path, Path]:
    """Make an authority at ``pem``, and a certificate of its own for 127.0.0.1; return that, and its key."""
    certificate, key, authority_key = folder / "index.pem", folder / "index.key", folder / "authority.key"
    new = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-days", "2", "-nodes", "-batch")
    of_it = ("-CA", str(pem), "-CAkey", str(authority_key), "-addext", "basicConstraints=critical,CA:FALSE")
    named = ("-subj", "/CN=index", "-addext", "subjectAltName=IP:127.0.0.1")
    for words in (
        (*new, "-keyout", str(authority_key), "-out", str(pem), "-subj", "/CN=authority"),
        (*new, *of_it, "-keyout", str(key), "-out", str(certificate), *named),
    ):
        subprocess.run(words, check=True, capture_output=True)
    return certificate, key


def test_an_index_with_an_authority_of_ones_own(world: World, tmp_path: Path) -> None:
    pem = tmp_path / "authority.pem"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*issue(tmp_path, pem))
    handler = partial(Handler, directory=str(world.folder), notes=world.notes)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            world.publish("internal", "flask", "2.0")
            world.address = f"https://127.0.0.1:{server.server_address[1]}"
            world.machine()
            world.wish("acme-core\n")
            with pytest.raises(SourceUnreachable, match="does not answer"):
                world.lock()
            own = tmp_path / "machine.yaml"
            own.write_text(own.read_text().replace(", user: ci", f", ca: {pem}, user: ci"))
            lock = world.lock()
            assert origins(lock)["acme-core"] == ("1.0", "internal")
            cache = Cache(tmp_path / "other cache")
            fetch_all(lock, load(tmp_path / "instar.yaml").definition, cache, silent)
            assert all(cache.is_whole(wheel.sha256) for wheel in lock.wheels)
            pem.unlink()
            with pytest.raises(HostError, match=r"cannot use the certificates in '.*authority\.pem': No such file"):
                world.lock(None)
        finally:
            server.shutdown()
            thread.join()
