"""Files that others wrote, damaged in every way that chance finds: each is read, or refused by an error of Instar's.

The seeds are fixed, so that what is found is found again. ``scripts/test --long`` tries many more.
"""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from instar.bake.contents import require_packages, require_wheels
from instar.bake.root import Written
from instar.bake.wheels.wheel import Layout, install
from instar.errors import InstarError
from instar.fetch.cache import Cache
from instar.fetch.index import parse_index
from instar.fetch.requirements import read_requirements
from instar.fetch.sources import read_sources
from instar.lock.file import read
from instar.lock.written import dump
from instar.model.digest import Digest
from instar.model.lock import ASKED, ESSENTIAL, Lock, Package, Requested, Suite, Wheel, needed_by

_SHORT, _LONG = 100, 10_000
_PIECES = (
    b'"', b"[", b"]", b"{", b"}", b":", b",", b"\\", b"\n", b"\r\n", b"\0", b"\xff", b"\x1b[2J", b" " * 50, b"[" * 2000,
    b"9" * 5000, b"-1", b"1e999", b"NaN", b"null", b"true", b'"\\ud800"', b"\xe2\x80\xa8", b"../", b"/etc/passwd",
    b"--x", b"=", b"#", b";", b"@", b"%(a)s", b"\xef\xbb\xbf", b"PK\x05\x06", b"\x7f" * 8,
)  # fmt: skip
_LAYOUT = Layout(prefix="/opt/venv", packages="lib", scripts="bin", headers="include")

_LOCK = Lock(
    bake_format=1,
    architecture="amd64",
    requested=Requested(base="debian:bookworm", packages=("curl=1.0",), requirements=("flask==1.0 --hash=sha256:00",)),
    suites=(Suite(label="Debian", suite="bookworm", date=1_700_000_000),),
    packages=(
        Package(name="bash", version="1:5.2~rc1+b1", architecture="amd64", sha256=Digest.of(b"b"),
                path="pool/b_1%3a.deb", step="base", why=ESSENTIAL, label="Debian", suite="bookworm", size_bytes=1),
        Package(name="curl", version="1.0", architecture="all", sha256=Digest.of(b"c"), path="pool/c.deb",
                step="packages", why=ASKED, label="Debian", suite="bookworm", size_bytes=1),
        Package(name="libcurl4", version="1.0", architecture="all", sha256=Digest.of(b"l"), path="pool/l.deb",
                step="packages", why=needed_by("curl"), label="Debian", suite="bookworm", size_bytes=1),
    ),
    python="3.11",
    wheels=(
        Wheel(name="flask", version="1.0", filename="flask-1.0-py3-none-any.whl", sha256=Digest.of(b"f"), why=ASKED),
    ),
    id="0" * 32,
)  # fmt: skip


def _wheel() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in {
            "flask/__init__.py": "x = 1\n" * 100,
            "flask-1.0.data/scripts/run": "#!python\n",
            "flask-1.0.dist-info/METADATA": "Name: flask\nVersion: 1.0\nRequires-Dist: click>=8\n\nx\n",
            "flask-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nTag: py3-none-any\n",
            "flask-1.0.dist-info/entry_points.txt": "[console_scripts]\nflask = flask.cli:main [x]\n",
            "flask-1.0.dist-info/RECORD": "",
        }.items():
            archive.writestr(zipfile.ZipInfo(name), text)  # of no date: the same bytes each time
    return out.getvalue()


def _deb() -> bytes:
    import gzip
    import tarfile

    text = b"Package: curl\nVersion: 1.0\nArchitecture: all\nDepends: a (>= 1) | b, c\nDescription: x\n more\n"
    control = io.BytesIO()
    with tarfile.open(fileobj=control, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("./control", "./postinst", "./" + "n" * 120):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text))
    out = b"!<arch>\n"
    for name, data in (("debian-binary", b"2.0\n"), ("control.tar.gz", gzip.compress(control.getvalue(), mtime=0))):
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    return out


def _read_lock(data: bytes, folder: Path) -> None:
    (folder / "instar.lock").write_bytes(data)
    lock = read(folder / "instar.lock")
    again = dump(lock)
    (folder / "instar.lock").write_text(again, "utf-8", newline="")
    assert read(folder / "instar.lock") == lock
    assert "\x1b" not in again


def _read_requirements(data: bytes, folder: Path) -> None:
    (folder / "r.txt").write_bytes(data)
    for one in read_requirements(folder, "r.txt"):
        assert one.text == " ".join(one.text.split())


def _read_wheel(data: bytes, folder: Path) -> None:
    def put(path: str, content: Iterable[bytes], mode: int) -> Written:
        assert ".." not in path.split("/")
        assert not path.startswith("/")
        return Written(b"", sum(len(chunk) for chunk in content))

    (folder / "w.whl").write_bytes(data)
    install(folder / "w.whl", "flask-1.0-py3-none-any.whl", _LAYOUT, put)


def _hold_wheel(data: bytes, folder: Path) -> None:
    cache = Cache(folder / "cache")
    wheel = Wheel(name="flask", version="1.0", filename="flask-1.0-py3-none-any.whl", sha256=cache.add([data]))
    require_wheels(Lock(bake_format=1, architecture="amd64", requested=_LOCK.requested, suites=(), packages=(),
                        python="3.11", wheels=(wheel,)), cache)  # fmt: skip


def _hold_package(data: bytes, folder: Path) -> None:
    cache = Cache(folder / "cache")
    package = Package(name="curl", version="1.0", architecture="all", sha256=cache.add([data]), path="c.deb",
                      step="packages", label="", suite="bookworm", size_bytes=len(data))  # fmt: skip
    require_packages([package], _LOCK, cache)


def _read_sources(data: bytes, folder: Path) -> None:
    (folder / "s").write_bytes(data)
    read_sources("bookworm", {"INSTAR_APT_SOURCES": str(folder / "s")})


def _read_configuration(data: bytes) -> None:
    parse_index(data.decode("utf-8", "replace"))


@dataclass(frozen=True)
class Kind:
    name: str
    whole: bytes
    read: Callable[[bytes, Path], None]


KINDS = (
    Kind("lock", dump(_LOCK).encode(), _read_lock),
    Kind("requirements", b"# c\nflask[a,b] >=1,<2 ; python_version > '3' --hash=sha256:" + b"0" * 64 + b" \\\n -x\nb @ http://x\n",
         _read_requirements),
    Kind("wheel", _wheel(), _read_wheel),
    Kind("wheel's metadata", _wheel(), _hold_wheel),
    Kind("package", _deb(), _hold_package),
    Kind("sources", b"deb [a=b] http://x/ bookworm main # c\ndeb-src x y z\n", _read_sources),
    Kind("stanzas", b"Types: deb\nURIs: http://x\n http://y\nSuites: bookworm z\nEnabled: yes\n\nTypes: x\n",
         _read_sources),
    Kind("pip's configuration", b"global.index-url='http://x'\n:env:.trusted-host='a b'\n",
         lambda data, folder: _read_configuration(data)),
)  # fmt: skip


def damaged(whole: bytes, chance: random.Random) -> bytes:
    data = bytearray(whole)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        at, length = chance.randrange(len(data) + 1), chance.choice((1, 1, 2, 4, 16, 100))
        way = chance.randrange(6)
        if way == 0 and data:
            data[min(at, len(data) - 1)] ^= 1 << chance.randrange(8)
        elif way == 1:
            data[at:at] = chance.choice(_PIECES)
        elif way == 2:
            data[at : at + length] = chance.choice(_PIECES)
        elif way == 3:
            del data[at : at + length]
        elif way == 4:
            other = chance.randrange(len(data) + 1)
            data[at:at] = data[other : other + length]
        else:
            del data[at:]
    return bytes(data)


def attempt(kind: Kind, folder: Path, seeds: range) -> None:
    for seed in seeds:
        data = damaged(kind.whole, random.Random(f"{kind.name} {seed}"))
        try:
            kind.read(data, folder)
        except InstarError as error:
            assert error.message
        except Exception as error:
            raise AssertionError(
                f"{kind.name}, seed {seed}: {type(error).__name__}: {error}: {data[:2000]!r}"
            ) from error


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_is_damaged_is_read_or_refused(kind: Kind, tmp_path: Path) -> None:
    kind.read(kind.whole, tmp_path) if kind.name not in ("requirements", "package") else None
    attempt(kind, tmp_path, range(_SHORT))


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_is_damaged_is_read_or_refused_many_times(kind: Kind, tmp_path: Path) -> None:
    attempt(kind, tmp_path, range(_SHORT, _SHORT + _LONG))
