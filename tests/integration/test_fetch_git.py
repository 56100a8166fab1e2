"""Revisions of git repositories, from a real server: git's own, behind HTTP, on a loopback address."""

from __future__ import annotations

import http.server
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from instar.bake.files.downloads import unpack_into
from instar.bake.root import Root
from instar.errors import FetchError, HashMismatch, SourceUnreachable
from instar.fetch.cache import Cache
from instar.fetch.git import fetch_revision
from instar.model.digest import Digest
from instar.model.image_spec import Fetch
from instar.store.members import Members, Stream

NONE = "0" * 64
SERVICE = "service=git-upload-pack"


class Server(http.server.BaseHTTPRequestHandler):
    """git's smart HTTP by ``git upload-pack``; ``password``: what the client must send, in a header."""

    repository: Path
    password: str | None = None

    def do_GET(self) -> None:
        if self._refused():
            return
        if SERVICE not in self.path:
            self.send_error(404)
            return
        said = self._pack("--advertise-refs", b"")
        first = b"# service=git-upload-pack\n"
        self._answer("advertisement", b"%04x" % (len(first) + 4) + first + b"0000" + said)

    def do_POST(self) -> None:
        if not self._refused():
            asked = self.rfile.read(int(self.headers["Content-Length"]))
            self._answer("result", self._pack("--stateless-rpc", asked))

    def _pack(self, way: str, asked: bytes) -> bytes:
        words = ["git", "upload-pack", "--stateless-rpc", *([way] if way != "--stateless-rpc" else []), self.repository]
        env = {**os.environ, "GIT_PROTOCOL": self.headers.get("Git-Protocol", "")}
        return subprocess.run(words, input=asked, capture_output=True, check=False, env=env).stdout

    def _refused(self) -> bool:
        if self.password is None or self.headers.get("Authorization") == self.password:
            return False
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="git"')
        self.send_header("Content-Length", "0")
        self.end_headers()
        return True

    def _answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", f"application/x-git-upload-pack-{kind}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass(frozen=True)
class Repository:
    folder: Path
    url: str

    def git(self, *words: str, stdin: str = "") -> str:
        who = {
            "GIT_AUTHOR_NAME": "a",
            "GIT_AUTHOR_EMAIL": "a@a",
            "GIT_COMMITTER_NAME": "a",
            "GIT_COMMITTER_EMAIL": "a@a",
        }
        env = {**os.environ, **who, "GIT_ALLOW_PROTOCOL": "file"}
        done = subprocess.run(
            ["git", *words], cwd=self.folder, env=env, input=stdin, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def commit(self) -> str:
        self.git("add", "-A", "-f")
        self.git("commit", "-q", "-m", "more")
        return self.git("rev-parse", "HEAD")

    def wanted(self, revision: str, sha256: str = NONE) -> Fetch:
        return Fetch(url=self.url, sha256=sha256, to="/usr/src/tool", revision=revision)


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    folder = tmp_path / "tool"
    folder.mkdir()
    handler = type("Handler", (Server,), {"repository": folder / ".git"})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        made = Repository(folder=folder, url=f"git+http://127.0.0.1:{server.server_port}/tool.git")
        made.git("init", "-q", "-b", "main")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def tree_sha256(repository: Repository, revision: str, cache: Cache) -> str:
    with pytest.raises(HashMismatch) as caught:
        fetch_revision(repository.wanted(revision), cache)
    assert caught.value.hint is not None and "write that sha256" in caught.value.hint
    return caught.value.message.partition("its SHA-256 is ")[2].partition(",")[0]


def names(cache: Cache, sha256: str) -> dict[bytes, tuple[int, bytes, bytes]]:
    """Return mode, link and content of what is in an archive of the cache."""
    data = cache.verify(Digest.from_hex(sha256)).read_bytes()
    members = Members(Stream([data], limit_bytes=1 << 20), marked_end=True, sparse_limit_bytes=1 << 20)
    return {one.name: (one.mode, one.link, b"".join(map(bytes, members.content()))) for one in members}


def test_the_tree_of_a_commit_comes_as_it_is_and_nothing_in_it_has_a_say(
    repository: Repository, cache: Cache, tmp_path: Path
) -> None:
    (repository.folder / "run").write_text("#!/bin/sh\n")
    (repository.folder / "run").chmod(0o755)
    (repository.folder / "a folder").mkdir()
    (repository.folder / "a folder/ünï\ncode").write_text("$Format:%H$\n")
    (repository.folder / "left-out").write_text("not\n")
    (repository.folder / "link").symlink_to("a folder")
    (repository.folder / ".gitattributes").write_text("left-out export-ignore\n* export-subst text eol=crlf\n")
    first = repository.commit()
    (repository.folder / "later").write_text("later\n")
    repository.commit()

    sha256 = tree_sha256(repository, first, cache)
    fetch_revision(repository.wanted(first, sha256), cache)
    assert names(cache, sha256) == {
        b".gitattributes": (0o644, b"", b"left-out export-ignore\n* export-subst text eol=crlf\n"),
        "a folder/ünï\ncode".encode(): (0o644, b"", b"$Format:%H$\n"),
        b"left-out": (0o644, b"", b"not\n"),
        b"link": (0o777, b"a folder", b""),
        b"run": (0o755, b"", b"#!/bin/sh\n"),
    }
    with Root(tmp_path, epoch=0) as root:
        unpack_into(cache.verify(Digest.from_hex(sha256)), "/image/usr/src", root)
    unpacked = tmp_path / "image/usr/src"
    assert (unpacked / "link/ünï\ncode").read_text() == "$Format:%H$\n"
    assert (unpacked / "run").stat().st_mode & 0o777 == 0o755


def test_the_form_of_an_archive_is_for_ever(repository: Repository, cache: Cache) -> None:
    (repository.folder / "a").write_text("a\n")
    (repository.folder / "b").symlink_to("a")
    sha256 = tree_sha256(repository, repository.commit(), cache)
    assert sha256 == "4076798a51b669fccf67ef4be3af16c7be05250d0e49a4d4ac6e0ca5054543f4"


def test_no_such_revision_and_nobody_there_are_told(repository: Repository, cache: Cache) -> None:
    (repository.folder / "a").write_text("a\n")
    repository.commit()
    with pytest.raises(SourceUnreachable, match=r"cannot fetch revision 111111111111 of .*not our ref"):
        fetch_revision(repository.wanted("1" * 40), cache)
    gone = Fetch(url="git+http://127.0.0.1:1/x", sha256=NONE, to="/x", revision="1" * 40)
    with pytest.raises(SourceUnreachable, match="Failed to connect"):
        fetch_revision(gone, cache)
    assert not [path for path in cache.root.rglob("*") if path.is_file()]


def test_a_submodule_and_too_much_are_refused(repository: Repository, cache: Cache) -> None:
    (repository.folder / "a").write_bytes(b"a" * 5000)
    first = repository.commit()
    with pytest.raises(FetchError, match="larger than 1,000 bytes"):
        fetch_revision(repository.wanted(first), cache, limit_bytes=1000)
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{first},sub")
    repository.git("commit", "-q", "-m", "a submodule")
    with pytest.raises(FetchError, match="'sub' is a submodule"):
        fetch_revision(repository.wanted(repository.git("rev-parse", "HEAD")), cache)


def bomb(repository: Repository, top: str) -> str:
    """Return a commit of a few objects that unfolds to ten thousand million files."""
    for _ in range(10):
        kind = "blob" if top == repository.git("hash-object", "file") else "tree"
        mode = "100644" if kind == "blob" else "040000"
        listing = "".join(f"{mode} {kind} {top}\td{number}\n" for number in range(10))
        top = repository.git("mktree", stdin=listing)
    return repository.git("commit-tree", "-m", "bomb", top)


def test_a_tree_of_a_few_objects_that_unfolds_without_end_is_refused(repository: Repository, cache: Cache) -> None:
    (repository.folder / "file").write_bytes(b"")
    top = repository.git("hash-object", "-w", "file")
    repository.git("update-ref", "refs/heads/main", revision := bomb(repository, top))
    with pytest.raises(FetchError, match=r"cannot fetch revision .*: it has more than 1,000,000 files"):
        fetch_revision(repository.wanted(revision), cache)
    assert not list((cache.root / "partial").iterdir())


def test_a_server_that_sends_more_than_is_taken_is_cut_off(repository: Repository, cache: Cache) -> None:
    (repository.folder / "file").write_bytes(os.urandom(3 << 20))
    revision = repository.commit()
    with pytest.raises(FetchError, match=r"cannot fetch revision .*: it is larger than 1,000,000 bytes"):
        fetch_revision(repository.wanted(revision), cache, limit_bytes=1_000_000)
    assert not list((cache.root / "partial").iterdir())


def test_a_password_is_the_callers_and_is_shown_to_nobody(
    repository: Repository, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository.folder / "a").write_text("a\n")
    revision = repository.commit()
    monkeypatch.setattr(Server, "password", "Basic bWU6c2VjcmV0")  # me:secret
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SourceUnreachable, match="terminal prompts disabled"):
        fetch_revision(repository.wanted(revision), cache)
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    sha256 = tree_sha256(repository, revision, cache)
    fetch_revision(repository.wanted(revision, sha256), cache)
    assert b"secret" not in cache.verify(Digest.from_hex(sha256)).read_bytes()


def test_no_password_goes_without_tls_to_where_a_definition_says(
    repository: Repository, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number is a host too, of which git's library makes 127.0.0.1: here it stands for one that is not loopback."""
    (repository.folder / "a").write_text("a\n")
    revision, asked = repository.commit(), list[str]()
    refused = Server._refused

    def noted(server: Server) -> bool:
        asked.append(server.headers.get("Authorization", ""))
        return refused(server)

    monkeypatch.setattr(Server, "_refused", noted)
    monkeypatch.setattr(Server, "password", "Basic bWU6c2VjcmV0")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text(
        "machine 127.0.0.1 login me password secret\nmachine 2130706433 login me password secret\n"
    )
    (tmp_path / ".gitconfig").write_text("[credential]\n\thelper = \"!printf 'username=me\\npassword=secret\\n' #\"\n")
    wanted = Fetch(
        url=repository.url.replace("127.0.0.1", "2130706433"), sha256=NONE, to="/usr/src/tool", revision=revision
    )
    with pytest.raises(SourceUnreachable) as caught:
        fetch_revision(wanted, cache)
    assert set(asked) == {""}
    assert caught.value.hint is not None
    assert "https" in caught.value.hint


def test_a_server_that_sends_elsewhere_leads_to_no_file_of_this_machine(cache: Cache, tmp_path: Path) -> None:
    class Redirecting(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", f"file://{tmp_path}/tool/.git/info/refs?{SERVICE}")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"git+http://127.0.0.1:{server.server_port}/tool"
            with pytest.raises(SourceUnreachable):
                fetch_revision(Fetch(url=url, sha256=NONE, to="/x", revision="1" * 40), cache)
        finally:
            server.shutdown()
            thread.join()
