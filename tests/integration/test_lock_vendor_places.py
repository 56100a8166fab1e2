"""Where archives of others are: paths, suites with parts, and hosts that want a password. Real apt, no network."""

from __future__ import annotations

import base64
import hashlib
import http.server
import os
import subprocess
import sys
from collections.abc import Iterator
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from local_archive import served
from signing import Signer
from vendor_author import Vendor, places, vendor_in

from instar.definition import load
from instar.errors import FetchError
from instar.fetch.cache import Cache
from instar.fetch.fetch import fetch_all
from instar.lock.file import read, write
from instar.model.progress import silent


@pytest.fixture(scope="module")
def signer() -> Iterator[Signer]:
    made = Signer()
    yield made
    made.close()


@pytest.fixture
def vendor(tmp_path: Path, signer: Signer) -> Iterator[Vendor]:
    with vendor_in(tmp_path, signer) as made:
        yield made


@pytest.mark.parametrize("suite", ["./", "/", "deb/amd/"])
def test_an_archive_without_suites_is_a_path(vendor: Vendor, suite: str) -> None:
    folder = vendor.archive.folder / "flat"
    place = folder / suite.strip("/.")
    (place / "pool").mkdir(parents=True)
    (place / "pool/node_22.deb").write_bytes(b"flat")
    entry = vendor.archive.packages[("bookworm", "node", "22.1-1")].splitlines()
    own = {
        "Filename": "./pool/node_22.deb",
        "Size": "4",
        "SHA256": hashlib.sha256(b"flat").hexdigest(),
        "Depends": "libc6",
    }
    lines = [f"{name}: {own.get(name, value)}\n" for name, _, value in (line.partition(": ") for line in entry)]
    (place / "Packages").write_text("".join(lines))
    data = (place / "Packages").read_bytes()
    (place / "Release").write_text(
        f"Label: Flat\nDate: {formatdate(1_700_000_000, usegmt=True)}\n"
        f"SHA256:\n {hashlib.sha256(data).hexdigest()} {len(data)} Packages\n"
    )
    vendor.signer.sign(place / "Release")
    uri = f"{vendor.archive.address}/flat"
    wish = f"vendor: {{uris: '{uri}', suites: '{suite}', signed_by: keys/v.asc, packages: [node]}}"
    vendor.author.write("perl", archives=wish)
    lock = vendor.lock()
    node = next(one for one in lock.packages if one.name == "node")
    assert (node.suite, node.path) == (suite, f"{suite.strip('./')}/pool/node_22.deb".lstrip("/"))
    file = vendor.author.folder / "instar.lock"
    write(file, lock)
    assert read(file) == lock
    cache = Cache(vendor.author.folder / "other cache")
    fetch_all(lock, load(vendor.author.folder / "instar.yaml").definition, cache, silent)
    assert cache.is_whole(node.sha256)


def test_a_suite_may_have_parts(vendor: Vendor) -> None:
    suite = "bookworm/vendor-org/7.0"
    vendor.archive.more = (suite,)
    vendor.archive.add("mongod", "7.0", suite=suite)
    vendor.archive.publish()
    archives = (
        f"vendor: {{uris: '{vendor.archive.address}', suites: {suite}, signed_by: keys/v.asc, packages: [mongod]}}"
    )
    vendor.author.write("perl", archives=archives)
    assert places(vendor.lock())["mongod"] == ("7.0", "vendor")


class Door(http.server.BaseHTTPRequestHandler):
    """Wants a password for /private, and sends on, from there too, to another host."""

    def __init__(self, *args: Any, to: str, notes: list[str], **more: Any) -> None:
        self.to, self.notes = to, notes
        super().__init__(*args, **more)

    def do_GET(self) -> None:
        self.notes.append(self.headers.get("Authorization", ""))
        private = self.path.startswith("/private") and not self.headers.get("Authorization")
        self.send_response(401 if private else 302)
        if private:
            self.send_header("WWW-Authenticate", 'Basic realm="archive"')
        else:
            self.send_header("Location", self.to + self.path.removeprefix("/moved").removeprefix("/private"))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_an_archive_that_wants_a_password_gets_none_by_the_definition(vendor: Vendor) -> None:
    notes: list[str] = []
    with served(vendor.archive.folder, partial(Door, to=vendor.archive.address, notes=notes)) as door:
        real, vendor.archive.address = vendor.archive.address, f"{door}/private"
        vendor.wish("node")
        with pytest.raises(FetchError, match=r"/private/dists/bookworm/InRelease answers 401: it wants a") as caught:
            vendor.lock()
        assert "/etc/apt/auth.conf.d" in (caught.value.hint or "")
        vendor.archive.address = f"{door}/moved"
        vendor.wish("node")
        assert places(vendor.lock())["node"] == ("22.1-1", "vendor")
        vendor.archive.address = real
    assert set(notes) == {""}


class Noting(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *args: Any, notes: list[str], **more: Any) -> None:
        self.notes = notes
        super().__init__(*args, **more)

    def do_GET(self) -> None:
        self.notes.append(self.headers.get("Authorization", ""))
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="its mount is root's")
def test_a_password_of_the_machines_goes_to_its_host_alone(vendor: Vendor, tmp_path: Path) -> None:
    first, second = list[str](), list[str]()
    folder = vendor.archive.folder
    with (
        served(folder, partial(Noting, directory=str(folder), notes=second)) as other,
        served(folder, partial(Door, to=other, notes=first)) as door,
    ):
        vendor.archive.address = f"{door}/private"
        vendor.wish("node")
        own = tmp_path / "auth.conf.d"
        own.mkdir()
        (own / "vendor.conf").write_text(f"machine {door}/ login ci password s3cr3t\n")
        lock = f"{sys.executable} -B -m instar lock -f {tmp_path}/instar.yaml"
        script = f"mount --bind {own} /etc/apt/auth.conf.d && exec {lock}"  # seen by this command alone
        argv = ["unshare", "--mount", "sh", "-c", script]
        environment = {**os.environ, "INSTAR_HOME": str(tmp_path / "home")}
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert places(read(tmp_path / "instar.lock"))["node"] == ("22.1-1", "vendor")
    expected = "Basic " + base64.b64encode(b"ci:s3cr3t").decode()
    assert expected in first and set(second) == {""}
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and path.parent != own]
    assert [path for path in kept if b"s3cr3t" in path.read_bytes()] == []


@pytest.mark.parametrize("depends", ["libc6 (>= ", "libc6 | | ((", "libc6 (= 1) (= 2) |", "x" * 70_000])
def test_a_list_that_apt_cannot_read_is_told(vendor: Vendor, depends: str) -> None:
    vendor.archive.add("node", "30", depends=depends)
    vendor.archive.publish(date=1_700_000_001)
    vendor.wish("node")
    with pytest.raises(FetchError, match=r"instar\.yaml:6:\d+: cannot use 'archives\.vendor': apt cannot read what it"):
        vendor.lock()
