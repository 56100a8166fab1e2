"""What is in a package or a wheel, held against what the lock calls it."""

from __future__ import annotations

import dataclasses
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from instar.bake.contents import require_packages, require_wheels
from instar.errors import BakeError
from instar.fetch.cache import Cache
from instar.model.lock import ASKED, ESSENTIAL, Lock, Package, Requested, Suite, Wheel


def deb(**fields: str) -> bytes:
    """A package file with nothing in it but these fields."""
    text = "".join(f"{name.replace('_', '-')}: {value}\n" for name, value in fields.items()).encode()
    control = io.BytesIO()
    with tarfile.open(fileobj=control, mode="w") as archive:
        info = tarfile.TarInfo("./control")
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text))
    out = b"!<arch>\n"
    for name, data in (("debian-binary", b"2.0\n"), ("control.tar", control.getvalue()), ("data.tar", bytes(1024))):
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    return out


def wheel(
    name: str,
    version: str = "1.0",
    *,
    requires: tuple[str, ...] = (),
    tags: tuple[str, ...] = ("py3-none-any",),
    metadata: str | None = None,
    info: str = "",
    files: Mapping[str, str] | None = None,
) -> bytes:
    info = info or f"{name.replace('-', '_')}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
    texts = {
        f"{info}/METADATA": metadata or f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\n" + "".join(f"Tag: {tag}\n" for tag in tags),
        f"{info}/RECORD": "",
        **(files or {}),
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, text in texts.items():
            archive.writestr(path, text)
    return out.getvalue()


class Locked:
    """A lock and the cache with its files. Entries: name → (file, why)."""

    def __init__(self, folder: Path) -> None:
        self.cache = Cache(folder / "cache")
        self.lock = Lock(
            bake_format=1,
            architecture="amd64",
            requested=Requested(base="debian:bookworm", packages=("curl=1.0",), requirements=("Flask[async]>=1",)),
            suites=(Suite(label="Debian", suite="bookworm", date=1_700_000_000),),
            packages=(),
            python="3.11",
        )

    def package(self, name: str, data: bytes, why: str | None = None, **changes: object) -> None:
        entry = Package(
            name=name, version="1.0", architecture="amd64", size_bytes=len(data), sha256=self.cache.add([data]),
            label="Debian", suite="bookworm", path=f"pool/{name}.deb", step="packages", why=why,
        )  # fmt: skip
        entry = dataclasses.replace(entry, **changes)  # type: ignore[arg-type]
        self.lock = dataclasses.replace(self.lock, packages=(*self.lock.packages, entry))

    def wheel(self, name: str, data: bytes, why: str | None = None, **changes: object) -> None:
        filename = f"{name.replace('-', '_')}-1.0-py3-none-any.whl"
        entry = Wheel(name=name, version="1.0", filename=filename, sha256=self.cache.add([data]), why=why)
        entry = dataclasses.replace(entry, **changes)  # type: ignore[arg-type]
        self.lock = dataclasses.replace(self.lock, wheels=(*self.lock.wheels, entry))

    def check(self) -> None:
        require_packages(self.lock.packages, self.lock, self.cache)
        require_wheels(self.lock, self.cache)


@pytest.fixture
def locked(tmp_path: Path) -> Locked:
    return Locked(tmp_path)


CURL = deb(Package="curl", Version="1.0", Architecture="amd64", Depends="libcurl4 (>= 1) | other, base-thing")
LIBCURL = deb(Package="libcurl4-t64", Version="1.0", Architecture="all", Provides="libcurl4 (= 1.0)")
BASH = deb(Package="bash", Version="1.0", Architecture="amd64", Essential="yes")
EVIL = deb(Package="evil", Version="1.0", Architecture="amd64")
PYTHON = deb(Package="python3", Version="1.0", Architecture="amd64")


@pytest.mark.parametrize("explained", [True, False])
def test_what_is_what_it_is_called_and_needed_is_taken(locked: Locked, explained: bool) -> None:
    def why(text: str) -> str | None:
        return text if explained else None

    locked.package("curl", CURL, why(ASKED))
    locked.package("libcurl4-t64", LIBCURL, why("needed by curl"), architecture="all")
    locked.package("bash", BASH, why(ESSENTIAL))
    locked.package("python3", PYTHON, why(ASKED))
    locked.wheel("flask", wheel("Flask", requires=("Markup_Safe (>=2) ; extra == 'x'", "click>=8")), why(ASKED))
    locked.wheel("markup-safe", wheel("markup.safe", info="MarkUp_Safe-1.dist-info", metadata=(
        "Name: markup.safe\nVersion: 1.0.0\n\nName: other\n")), why("needed by flask"))  # fmt: skip
    locked.check()


@pytest.mark.parametrize(
    ("name", "file", "cause"),
    [
        ("curl", EVIL, "inside is 'evil 1.0 amd64', locked is 'curl 1.0 amd64'"),
        ("curl", CURL.replace(b"Version: 1.0", b"Version: 0.9"), "inside is 'curl 0.9 amd64', locked is 'curl 1.0"),
        ("curl", CURL.replace(b"ture: amd64", b"ture: arm64"), "inside is 'curl 1.0 arm64', locked is 'curl 1.0 amd"),
        ("curl", CURL.replace(b"Package: ", b"package: "), "inside is ' 1.0 amd64', locked is 'curl 1.0 amd64'"),
        ("evil", EVIL, "nothing that is asked for needs it"),
        ("bash", BASH.replace(b"Essential: yes", b"Essential: no "), "nothing that is asked for needs it"),
    ],
)
def test_a_package_that_is_not_what_the_lock_says_is_refused(
    locked: Locked, name: str, file: bytes, cause: str
) -> None:
    locked.package(name, file)
    with pytest.raises(BakeError) as caught:
        locked.check()
    assert caught.value.message.startswith(f"cannot use the package '{name}' of the lock: {cause}")
    assert "instar lock --update" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("name", "file", "why"),
    [
        ("evil", EVIL, "needed by curl"),
        ("evil", EVIL, "needed by nobody"),
        ("evil", EVIL, ASKED),
        ("evil", EVIL, ESSENTIAL),
        ("base-thing", deb(Package="base-thing", Version="1.0", Architecture="amd64"), ASKED),
        ("base-thing", deb(Package="base-thing", Version="1.0", Architecture="amd64"), ESSENTIAL),
        ("base-thing", deb(Package="base-thing", Version="1.0", Architecture="amd64"), "needed by base-thing"),
    ],
)
def test_a_reason_that_is_none_is_refused(locked: Locked, name: str, file: bytes, why: str) -> None:
    locked.package("curl", CURL, ASKED)
    locked.package(name, file, why)
    with pytest.raises(
        BakeError, match=f"cannot use the package '{name}' of the lock: (nothing|it is locked as '{why}')"
    ):
        locked.check()


def test_a_size_that_is_none_is_refused(locked: Locked) -> None:
    locked.package("curl", CURL, size_bytes=7)
    with pytest.raises(BakeError, match=rf"'curl' of the lock: it has {len(CURL):,} bytes, locked are 7"):
        locked.check()


@pytest.mark.parametrize(
    ("file", "changes", "cause"),
    [
        (wheel("evil"), {}, "inside is 'evil 1.0', locked is 'flask 1.0'"),
        (wheel("flask", "2.0"), {}, "inside is 'flask 2.0', locked is 'flask 1.0'"),
        (wheel("flask", "odd!"), {}, "inside is 'flask odd!', locked is 'flask 1.0'"),
        (wheel("flask", tags=("cp39-cp39-win32",)), {}, "it was not made as 'flask-1.0-py3-none-any.whl'"),
        (wheel("flask", tags=()), {}, "it was not made as 'flask-1.0-py3-none-any.whl'"),
        (
            wheel("flask", tags=("cp312-cp312-any",)),
            {"filename": "flask-1.0-cp312-cp312-any.whl"},
            "'flask-1.0-cp312-cp312-any.whl' is not for Python 3.11 on x86_64",
        ),
    ],
)
def test_a_wheel_that_is_not_what_the_lock_says_is_refused(
    locked: Locked, file: bytes, changes: dict[str, object], cause: str
) -> None:
    locked.wheel("flask", file, **changes)
    with pytest.raises(BakeError) as caught:
        locked.check()
    assert caught.value.message == f"cannot use the wheel 'flask' of the lock: {cause}"


@pytest.mark.parametrize(
    ("file", "cause"),
    [
        (wheel("flask", info="evil-1.0.dist-info"), "'evil-1.0.dist-info' is the metadata of 'flask' 1.0"),
        (wheel("flask", info="flask-1.1.dist-info"), "'flask-1.1.dist-info' is the metadata of 'flask' 1.0"),
        (wheel("flask", files={"flask-1.0.dist-info/WHEEL": "Wheel-Version: 2.0\n"}), "it is a wheel of version 2.0"),
        (wheel("flask", files={"x-1.dist-info/WHEEL": ""}), "it has metadata of several packages"),
        (b"PK", "File is not a zip file"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_wheel_that_is_none_is_told(locked: Locked, file: bytes, cause: str) -> None:
    locked.wheel("flask", file)
    with pytest.raises(BakeError) as caught:
        locked.check()
    assert caught.value.message.startswith(
        f"cannot use the wheel 'flask-1.0-py3-none-any.whl': it is malformed: {cause}"
    )


@pytest.mark.parametrize("why", [None, ASKED, "needed by flask"])
def test_a_wheel_that_nothing_asks_for_is_refused(locked: Locked, why: str | None) -> None:
    locked.wheel("flask", wheel("flask", requires=("click",)))
    locked.wheel("evil", wheel("evil"), why)
    with pytest.raises(BakeError, match="cannot use the wheel 'evil' of the lock: nothing that is asked for needs it"):
        locked.check()


def test_a_license_with_empty_lines_does_not_end_the_metadata(locked: Locked) -> None:
    """As scipy's, which goes on with what is needed."""
    text = "Name: flask\nVersion: 1.0\nLicense: All\n   \n\t\n   rights\nRequires-Dist: click\n\nRequires-Dist: x\n"
    locked.wheel("flask", wheel("flask", metadata=text), ASKED)
    locked.wheel("click", wheel("click"), "needed by flask")
    locked.check()


def test_what_a_wheel_brings_along_of_others_is_not_about_itself(locked: Locked) -> None:
    vendored = {
        "flask/_vendor/other-2.dist-info/WHEEL": "Tag: py3-none-any\n",
        "flask/_vendor/other-2.dist-info/METADATA": "Name: other\nVersion: 2\n",
    }
    locked.wheel("flask", wheel("flask", files=vendored), ASKED)
    locked.check()
