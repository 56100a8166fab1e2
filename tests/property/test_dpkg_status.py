"""What an image of others says that it has installed: anything may stand there, and what comes of it has its form."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from instar.fetch.apt_status import status_text
from instar.lock.beneath import of_image
from instar.model.dpkg_status import WrongStatus, installed, packages_of
from instar.store.header import REGULAR, SYMLINK
from instar.store.listing import ListedFile

_WORDS = st.sampled_from(
    (
        *("Package", "Version", "Architecture", "Status", "Depends", "Essential", ": ", ":", " ", "\n", "\n\n", "\n "),
        *("install ok installed", "hold ok unpacked", "liba", "libb", "1.0-1", "2:1~x", "amd64", "all", "i386", "\0"),
    )
)
_STATUS = st.one_of(st.binary(max_size=300), st.lists(_WORDS, max_size=40).map(lambda words: "".join(words).encode()))
_VALUE = st.text(max_size=60)


@given(_STATUS)
def test_what_is_read_of_a_status_has_its_form(text: bytes) -> None:
    try:
        found = installed(text, "amd64")
    except WrongStatus as error:
        assert str(error).isprintable()
        return
    for one in packages_of(found):
        assert re.fullmatch(r"[a-z0-9][a-z0-9+.-]*", one.name) and one.architecture in ("amd64", "all")
        assert re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z.+:~-]*", one.version)


@given(st.lists(st.fixed_dictionaries({"Depends": _VALUE, "Provides": _VALUE, "Essential": _VALUE}), max_size=4))
def test_what_is_told_to_a_solver_is_a_paragraph_a_package(values: list[dict[str, str]]) -> None:
    controls = [
        {"Package": f"lib{number}", "Version": "1", "Architecture": "amd64", **one} for number, one in enumerate(values)
    ]
    told = status_text(controls)
    assert told.isascii() and told.count("\n\n") == len(controls)
    assert {one.name for one in packages_of(installed(told.encode(), "amd64"))} == {one["Package"] for one in controls}


@given(
    st.dictionaries(
        st.sampled_from(
            (
                *(b"etc/os-release", b"usr/lib/os-release", b"var/lib/dpkg/status", b"var/lib/dpkg/status.d/x"),
                *(b"bin/dpkg", b"usr/local/bin/python3", b"usr/local/bin/python3.12", b"usr/bin/python3"),
            )
        ),
        st.one_of(
            st.builds(
                lambda link: ListedFile(kind=SYMLINK, mode=0o777, owner=(0, 0), link=link), st.binary(max_size=30)
            ),
            st.builds(lambda text: ListedFile(kind=REGULAR, mode=0o644, owner=(0, 0), content=text), _STATUS),
            st.just(
                ListedFile(kind=REGULAR, mode=0o644, owner=(0, 0), content=b"ID=debian\nVERSION_CODENAME=bookworm\n")
            ),
        ),
    ),
    st.text(max_size=30),
)
def test_an_image_of_others_is_refused_or_understood(seen: dict[bytes, ListedFile], path: str) -> None:
    try:
        found = of_image(seen, {"PATH": path}, "amd64")
    except WrongStatus as error:
        assert str(error).isprintable()
        return
    assert found.installed.packages and found.installed.release.partition(":")[0] in ("debian", "ubuntu")
    python = found.installed.python
    assert python is None or re.fullmatch(r"(/[^/]+)*/python3\.[0-9]{1,3}", python)
