"""Which members a backup may have: one that somebody else made says whatever they like."""

from __future__ import annotations

import pytest

from instar.backup import contents
from instar.errors import BackupDamaged
from instar.store.header import DIRECTORY, HARD_LINK, REGULAR, SYMLINK, Entry


def test_members_that_no_backup_has_are_refused() -> None:
    for name in (
        b"../etc/passwd",
        b"/etc/passwd",
        b"ledger/instar.db-journal",
        b"secrets/../id",
        b"id",
        b"secrets/key/x",
    ):
        with pytest.raises(BackupDamaged, match="which no backup has"):
            contents.require_member(Entry(name=name, kind=REGULAR), "file")
    for name in (
        b"certificates/..",
        b"certificates/a/../../x",
        b"certificates//x",
        b"recordings/a/b",
        b"recordings/..",
    ):
        with pytest.raises(BackupDamaged):
            contents.require_member(Entry(name=name, kind=REGULAR), "file")
    for kind in (SYMLINK, HARD_LINK, DIRECTORY, b"3"):
        with pytest.raises(BackupDamaged):
            contents.require_member(Entry(name=b"secrets/key", kind=kind), "file")
    contents.require_member(Entry(name=b"certificates/acme/*.shop.example/certificate.pem", kind=REGULAR), "file")


def test_what_would_be_taken_for_a_volume_is_a_folder_and_its_links_stay_in_it() -> None:
    volume = b"volumes/web/dev/data"
    for bad in (
        Entry(name=volume, kind=SYMLINK, link=b"/etc"),
        Entry(name=volume, kind=REGULAR),
        Entry(name=volume, kind=HARD_LINK, link=volume + b"/x"),
        Entry(name=b"volumes/web/dev/.data.img", kind=REGULAR),
        Entry(name=b"volumes/web/dev/.data.old/", kind=DIRECTORY),
        Entry(name=b"volumes/web/dev/.lock", kind=SYMLINK, link=b"/etc/cron.d/x"),
        Entry(name=b"volumes/web/\x1b[2J/data/x", kind=REGULAR),
        Entry(name=volume + b"/x", kind=HARD_LINK, link=b"volumes/web/production/data/x"),
        Entry(name=volume + b"/x", kind=HARD_LINK, link=volume),
        Entry(name=volume + b"/x", kind=b"3"),
    ):
        with pytest.raises(BackupDamaged, match="which no backup has"):
            contents.require_member(bad, "file")
    for good in (
        Entry(name=volume + b"/", kind=DIRECTORY),
        Entry(name=volume + b"/d/", kind=DIRECTORY),
        Entry(name=volume + b"/.hidden", kind=SYMLINK, link=b"/etc"),
        Entry(name=volume + b"/x", kind=HARD_LINK, link=volume + b"/d/x"),
    ):
        contents.require_member(good, "file")
