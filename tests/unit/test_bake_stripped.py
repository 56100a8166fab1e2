"""What ``image.strip`` takes out, and what it leaves for bills of materials and for who runs by it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from instar.bake.normalise import Strip, normalise

PATHS = (
    "usr/share/doc/curl/copyright",
    "usr/share/doc/curl/NEWS.gz",
    "usr/share/doc/curl/examples/x",
    "usr/share/man/man1/curl.1.gz",
    "usr/share/man/de/man1/curl.1.gz",
    "usr/share/info/dir",
    "usr/share/locale/de/LC_MESSAGES/curl.mo",
    "usr/share/i18n/charmaps/KOI8-R.gz",
    "usr/lib/locale/C.utf8/LC_CTYPE",
    "usr/lib/locale/de_DE/LC_CTYPE",
    "usr/share/zoneinfo/Europe/Berlin",
    "usr/lib/python3/dist-packages/docs/man/x",
    "srv/usr/share/man/own",
)
DOCS = {PATHS[1], PATHS[2], PATHS[3], PATHS[4], PATHS[5]}
LOCALES = {PATHS[6], PATHS[7], PATHS[9]}


def left(folder: Path, *asked: str) -> set[str]:
    for path in PATHS:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("x")
    (folder / "usr/share/doc/libcurl4").symlink_to("curl")
    normalise(folder, epoch=1_700_000_000, strip=Strip.NOTHING, asked=asked)
    return {os.path.relpath(Path(above, name), folder) for above, folders, files in os.walk(folder)
            for name in [*files, *(one for one in folders if Path(above, one).is_symlink())]}  # fmt: skip


@pytest.mark.root
@pytest.mark.parametrize(
    ("asked", "gone"), [((), set()), (("docs",), DOCS), (("locales",), LOCALES), (("docs", "locales"), DOCS | LOCALES)]
)
def test_what_was_asked_for_goes_and_licences_and_links_stay(
    tmp_path: Path, asked: tuple[str, ...], gone: set[str]
) -> None:
    assert left(tmp_path, *asked) == {*PATHS, "usr/share/doc/libcurl4"} - gone


@pytest.mark.root
def test_folders_that_got_empty_go_too(tmp_path: Path) -> None:
    left(tmp_path, "docs", "locales")
    for name in ("man", "info", "locale", "i18n"):
        assert list((tmp_path / "usr/share" / name).iterdir()) == []
    assert [path.name for path in (tmp_path / "usr/share/doc/curl").iterdir()] == ["copyright"]
    assert [path.name for path in (tmp_path / "usr/lib/locale").iterdir()] == ["C.utf8"]
