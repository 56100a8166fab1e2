"""Whatever the list of an archive of others says, what it gives can be locked and stands in for nothing of the base."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import example, given
from hypothesis import strategies as st

from instar.errors import FetchError
from instar.fetch.archives import Given, read_archive
from instar.lock.parsed import lock_of
from instar.lock.written import dump
from instar.model.control import fields
from instar.model.image_sources import Archive
from instar.model.lock import Lock, Package, Requested, RequestedArchive

KNOWN = frozenset({"libc6", "openssl"})
WISH = Archive(suites=("stable",), packages=("node", "openssl=3*"), uris=("https://x.example",), signed_by="k")

names = st.sampled_from(["node", "openssl", "libc6", "tool", "-o", "a b", "../x", "", "Tool", "a\rb"])
values = st.one_of(
    st.sampled_from(["1.0", "amd64", "all", "arm64", "yes", "0", "12", "a" * 64, "pool/a.deb", "../a.deb", "//a.deb"]),
    st.sampled_from(
        ["./pool/a.deb", "/etc/a.deb", "a/../b.deb", "http://x/a.deb", "pool/.a.deb", "x\n Package: libc6"]
    ),
    st.text(max_size=12),
)
keys = st.sampled_from(
    ["Version", "Architecture", "Filename", "Size", "SHA256", "Depends", "Provides", "Essential", "Package", "\x00"]
)
paragraph = st.tuples(names, st.lists(st.tuples(keys, values), max_size=12)).map(
    lambda found: "".join(f"{key}: {value}\n" for key, value in (("Package", found[0]), *found[1]))
)
texts = st.one_of(st.lists(paragraph, max_size=4).map("\n".join), st.text(max_size=200))
WHOLE = f"Version: 1.0\nArchitecture: amd64\nFilename: pool/a.deb\nSize: 1\nSHA256: {'a' * 64}\nEssential: yes\n"


def read(data: bytes) -> Given:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "Packages")
        file.write_bytes(data)
        index = SimpleNamespace(suite="stable", label="L", file=file, release={"Date": 0})
        apt = cast(Any, SimpleNamespace(indexes=(index,), suites=()))
        return read_archive("vendor", WISH, apt, KNOWN, "amd64")


def relocked(packages: tuple[Package, ...]) -> tuple[Package, ...]:
    import json

    wish = RequestedArchive(name="vendor", suites=("stable",), packages=WISH.packages)
    lock = Lock(
        bake_format=2,
        architecture="amd64",
        requested=Requested(base="debian:bookworm", archives=(wish,)),
        suites=(),
        packages=packages,
    )
    return lock_of(json.loads(dump(lock))).packages


@given(texts)
@example(f"Package: tool\n{WHOLE}\nPackage: libc6\n{WHOLE}\nPackage: node\n{WHOLE}")
def test_what_is_given_can_be_locked_and_stands_in_for_nothing(text: str) -> None:
    try:
        found = read(text.encode("utf-8", "surrogatepass"))
    except FetchError:
        return
    for package in found.packages.values():
        assert package.name in found.named or package.name not in KNOWN
        assert relocked((package,)) == (package,)
    entries = [fields(one) for one in found.text.encode("utf-8", "surrogateescape").split(b"\n\n") if one]
    assert [(one["Package"], one["Version"]) for one in entries] == [key[:2] for key in found.packages]
    assert not any("Essential" in one for one in entries)


@given(st.binary(max_size=300))
def test_bytes_that_are_no_text_are_read_too(data: bytes) -> None:
    try:
        read(b"Package: node\n" + data)
    except FetchError as error:
        assert "its entry of 'node'" in str(error)
