from __future__ import annotations

from pathlib import Path

import pytest

from instar.errors import FetchError
from instar.fetch.sources import ArchiveSuite, Sources, read_sources

LINES = """\
# deb http://commented.invalid/debian bookworm main
deb http://a.invalid/debian bookworm main contrib  # the archive
deb [arch=amd64 signed-by=/k.gpg] http://s.invalid/security bookworm-security main
deb-src http://a.invalid/debian bookworm main
deb http://t.invalid/chrome/deb/ stable main
deb http://a.invalid/debian trixie main
deb http://f.invalid/flat ./
"""
STANZAS = """\
# a comment
Types: deb deb-src
URIs: http://a.invalid/debian
 http://b.invalid/debian/
Suites: bookworm bookworm-updates
 trixie
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 Suites: not a field
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
Enabled: no
URIs: http://off.invalid/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://src.invalid/debian
Suites: bookworm
Components: main
"""


def sources_of(tmp_path: Path, **files: str) -> Sources:
    parts = tmp_path / "etc/apt/sources.list.d"
    parts.mkdir(parents=True)
    for name, text in files.items():
        (parts / name.replace("_", ".")).write_text(text)
    return read_sources("bookworm", {}, tmp_path)


def test_lines_of_the_release_keep_their_words_and_others_are_left_out(tmp_path: Path) -> None:
    sources = sources_of(tmp_path, debian_list=LINES)
    assert sources.lines == (
        "deb http://a.invalid/debian bookworm main contrib  # the archive\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://s.invalid/security bookworm-security main\n"
    )
    assert sources.stanzas == ""
    assert sources.of_suite("bookworm-security") == (
        ArchiveSuite(uri="http://s.invalid/security", suite="bookworm-security"),
    )


def test_stanzas_are_narrowed_to_the_release_and_keep_every_other_field(tmp_path: Path) -> None:
    sources = sources_of(tmp_path, debian_sources=STANZAS)
    assert sources.stanzas == (
        "Types: deb\nSuites: bookworm bookworm-updates\nURIs: http://a.invalid/debian\n http://b.invalid/debian/\n"
        "Components: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n Suites: not a field\n"
        " -----END PGP PUBLIC KEY BLOCK-----\n"
    )
    assert [archive.url("pool/x.deb") for archive in sources.of_suite("bookworm")] == [
        "http://a.invalid/debian/pool/x.deb",
        "http://b.invalid/debian/pool/x.deb",
    ]


def test_a_named_file_is_used_instead_of_the_machines(tmp_path: Path) -> None:
    sources_of(tmp_path, debian_list=LINES)
    own = tmp_path / "own"
    own.write_text("Types: deb\nURIs: http://own.invalid/\nSuites: bookworm\nComponents: main\n")
    sources = read_sources("bookworm", {"INSTAR_APT_SOURCES": str(own)}, tmp_path)
    assert [archive.uri for archive in sources.archives] == ["http://own.invalid/"]
    assert sources.files == (own,)


def test_a_release_without_a_source_is_refused_naming_where_was_looked(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"cannot find 'bookworm'.*debian\.list") as caught:
        sources_of(tmp_path, debian_list="deb http://a.invalid/debian trixie main\n")
    assert "INSTAR_APT_SOURCES" in (caught.value.hint or "")


def test_security_updates_alone_are_no_release(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="cannot find 'bookworm'"):
        sources_of(tmp_path, s_list="deb http://s.invalid/ bookworm-security main\n")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"nowhere\.list.*No such file"):
        read_sources("bookworm", {"INSTAR_APT_SOURCES": str(tmp_path / "nowhere.list")}, tmp_path)
