"""Archives of others: what is taken from one, by whose key, and what is refused. Real apt and gpg, no network."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from signing import Signer
from vendor_author import Vendor, places, vendor_in

from instar.definition import load
from instar.errors import DefinitionError, FetchError, HashMismatch, InstarError, LockError, LockStale, ResolveError
from instar.fetch import lists
from instar.fetch.cache import Cache
from instar.fetch.fetch import fetch_all
from instar.lock.file import read, write
from instar.lock.fit import require_fit
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


def test_a_package_that_is_named_comes_from_its_archive_with_what_only_that_has(vendor: Vendor) -> None:
    vendor.wish("node")
    lock = vendor.lock()
    assert places(lock)["node"] == ("22.1-1", "vendor")
    assert places(lock)["libuv"] == ("1.50", "vendor")
    assert places(lock)["libc6"] == ("2.36-9", None)
    why = {one.name: one.why for one in lock.packages}
    assert (why["node"], why["libuv"]) == ("asked for", "needed by node")
    assert {(one.label, one.suite, one.archive) for one in lock.suites if one.archive} == {
        ("Vendor", "bookworm", "vendor")
    }
    file = vendor.author.folder / "instar.lock"
    write(file, lock)
    assert read(file) == lock
    text = file.read_text()
    assert '"instar-lock": 3' in text
    assert "127.0.0.1" not in text
    assert vendor.lock(lock) == lock


def test_what_is_locked_is_fetched_from_where_it_was_locked(vendor: Vendor) -> None:
    vendor.wish("node")
    lock = vendor.lock()
    loaded = load(vendor.author.folder / "instar.yaml")
    cache = Cache(vendor.author.folder / "other cache")
    fetch_all(lock, loaded.definition, cache, silent)
    assert all(cache.is_whole(package.sha256) for package in lock.packages)
    (vendor.archive.folder / "pool/node_22.1-1.deb").write_bytes(b"node 22.1-2")
    with pytest.raises(HashMismatch, match=r"cannot fetch 'node' 22.1-1: what 'Vendor bookworm' sent is not what"):
        fetch_all(lock, loaded.definition, Cache(vendor.author.folder / "third"), silent)


def test_an_archive_puts_nothing_in_the_place_of_what_the_base_has(vendor: Vendor) -> None:
    vendor.archive.add("libc6", "9.0")
    vendor.archive.add("perl", "9.0")
    vendor.archive.add("bash", "9.0", essential="yes")
    vendor.archive.add("implant", "1.0", essential="yes", provides="libc6 (= 9.0), perl (= 9.0)")
    vendor.archive.add("init-helpers", "1.0", content=b"the same version, other bytes")
    vendor.archive.publish(date=1_700_000_001)
    vendor.author.write("perl")
    plain = vendor.lock()
    vendor.wish("node")
    lock = vendor.lock()
    ours = {one.name: one for one in lock.packages if one.name not in ("node", "libuv")}
    assert ours == {one.name: one for one in plain.packages}


def test_an_archive_has_no_say_in_what_packages_of_others_need(vendor: Vendor) -> None:
    vendor.author.archive.add("tool", "1.0", depends="implant | python3")
    vendor.author.archive.add("base-part", "1.0", essential="yes", depends="implant | bash")
    vendor.author.archive.publish(date=1_700_000_001)
    vendor.archive.add("implant", "1.0")
    vendor.archive.publish(date=1_700_000_001)
    vendor.wish("node")
    assert "implant" not in places(vendor.lock())
    text = (vendor.author.folder / "instar.yaml").read_text()
    (vendor.author.folder / "instar.yaml").write_text(text.replace("[perl]", "[tool]"))
    with pytest.raises(ResolveError, match="'vendor' has it, and nothing from there needs it, only base-part, tool"):
        vendor.lock()


def test_what_is_named_is_taken_even_where_the_base_has_a_newer_one(vendor: Vendor) -> None:
    vendor.author.archive.add("node", "99", depends="libc6")
    vendor.author.archive.add("shell", "1", essential="yes")
    vendor.author.archive.publish(date=1_700_000_001)
    vendor.archive.add("shell", "0.5")
    vendor.archive.publish(date=1_700_000_001)
    vendor.wish("node", "shell")
    lock = vendor.lock()
    assert places(lock)["node"] == ("22.1-1", "vendor")
    assert [(one.version, one.archive, one.step) for one in lock.packages if one.name == "shell"] == [
        ("0.5", "vendor", "base")
    ]


def test_a_version_is_pinned_by_its_beginning_and_kept(vendor: Vendor) -> None:
    vendor.wish("node=22.*")
    lock = vendor.lock()
    assert places(lock)["node"] == ("22.1-1", "vendor")
    vendor.archive.add("node", "22.5-1")
    vendor.archive.add("node", "23.0-1")
    vendor.archive.publish(date=1_700_000_001)
    text = (vendor.author.folder / "instar.yaml").read_text()
    (vendor.author.folder / "instar.yaml").write_text(text.replace("[perl]", "[python3]"))
    kept = vendor.lock(lock)
    assert places(kept)["node"] == ("22.1-1", "vendor")
    assert places(vendor.lock(kept, update=frozenset(["node"])))["node"] == ("22.5-1", "vendor")
    vendor.wish("node=21*")
    with pytest.raises(ResolveError, match=r"'node=21\*': there is no such version; there is 23.0-1, 22.5-1, 22.1-1"):
        vendor.lock(kept)
    vendor.wish("node=22.0-1")
    assert places(vendor.lock(kept))["node"] == ("22.0-1", "vendor")


def test_a_wish_that_moved_makes_the_lock_stale(vendor: Vendor, tmp_path: Path) -> None:
    vendor.wish("node")
    lock = vendor.lock()
    loaded = load(tmp_path / "instar.yaml")
    require_fit(lock, loaded)
    vendor.wish("libuv")
    with pytest.raises(LockStale, match=r"instar.yaml:6:\d+: archive 'vendor' is not as it was locked: packages"):
        require_fit(lock, load(tmp_path / "instar.yaml"))
    vendor.author.write("perl")
    with pytest.raises(LockStale, match="archive 'vendor' is no longer here"):
        require_fit(lock, load(tmp_path / "instar.yaml"))
    other = Signer()
    other.public(tmp_path / "keys/v.asc")
    other.close()
    vendor.wish("node")
    with pytest.raises(LockStale, match="archive 'vendor' is not as it was locked: key"):
        require_fit(lock, load(tmp_path / "instar.yaml"))


def test_a_name_that_only_the_archive_has_is_named_there(vendor: Vendor) -> None:
    vendor.wish("node")
    text = (vendor.author.folder / "instar.yaml").read_text()
    (vendor.author.folder / "instar.yaml").write_text(text.replace("[perl]", "[libuv]"))
    with pytest.raises(ResolveError, match=r"only the archive 'vendor' has it: name it in archives\.ven"):
        vendor.lock()
    vendor.wish("nodde")
    with pytest.raises(ResolveError, match=r"instar.yaml:6:\d+: cannot lock 'nodde': the archive 'vendor' has no such"):
        vendor.lock()


def test_one_that_another_key_has_signed_is_refused(vendor: Vendor) -> None:
    vendor.wish("node")
    other, old = Signer(), Signer(expire="1d")
    for one in (other, old):
        vendor.archive.signer = one
        vendor.archive.publish(date=1_700_000_001)
        if one is old:
            old.public(vendor.author.folder / "keys/v.asc")
        with pytest.raises(FetchError) as caught:
            vendor.lock()
        expected = "has expired" if one is old else "which is not in its 'signed_by'"
        assert re.search(r"instar\.yaml:6:\d+: cannot use 'archives\.vendor': ", str(caught.value))
        assert expected in str(caught.value)
        one.close()
    vendor.archive.signer = None
    for file in vendor.archive.folder.glob("dists/*/InRelease"):
        file.unlink()
    with pytest.raises(FetchError, match=r"cannot use 'archives\.vendor': it is not signed"):
        vendor.lock()


def test_bytes_that_were_changed_are_refused(vendor: Vendor) -> None:
    vendor.wish("node")
    for index in vendor.archive.folder.glob("dists/bookworm/main/*/Packages"):
        index.write_bytes(index.read_bytes().replace(b"22.1-1", b"22.1-2"))
    with pytest.raises(HashMismatch, match="is not what its signed Release file says"):
        vendor.lock()
    vendor.archive.publish()
    signed = vendor.archive.folder / "dists/bookworm/InRelease"
    signed.write_text(signed.read_text().replace("Label: Vendor", "Label: Debian"))
    with pytest.raises(FetchError, match="did not sign what the archive says"):
        vendor.lock()


def test_one_that_is_older_than_the_lock_is_refused(vendor: Vendor) -> None:
    vendor.wish("node")
    vendor.archive.publish(date=1_710_000_000)
    lock = vendor.lock()
    vendor.archive.publish(date=1_700_000_000)
    shutil.rmtree(vendor.author.folder / "the cache/apt")  # of another machine: apt itself keeps the newer that it has
    with pytest.raises(FetchError, match="'bookworm' is of 2023-11-14 22:13 there, and of 2024-03-09 16:00 in the lo"):
        vendor.lock(lock, update="all")
    taken = dataclasses.replace(lock, suites=tuple(one for one in lock.suites if not one.archive))
    assert places(vendor.lock(taken, update="all"))["node"] == ("22.1-1", "vendor")


def test_an_expired_one_is_taken_only_as_of_its_day(vendor: Vendor) -> None:
    vendor.archive.extra = "Valid-Until: Fri, 17 Nov 2023 22:13:20 GMT\n"
    vendor.archive.publish()
    vendor.wish("node")
    with pytest.raises(FetchError, match=r"its Release file expired .* ago") as caught:
        vendor.lock()
    assert "as_of" in (caught.value.hint or "")
    for day in ("2023-11-13", "2023-11-18"):
        vendor.wish("node", more=f", as_of: {day}")
        with pytest.raises(FetchError, match=f"is of 2023-11-14, valid until 2023-11-17, not of {day}"):
            vendor.lock()
    vendor.wish("node", more=", as_of: 2023-11-15")
    assert places(vendor.lock())["node"] == ("22.1-1", "vendor")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"Filename": "../../etc/passwd.deb"}, "has a Filename that is none"),
        ({"SHA256": ""}, "has no SHA256"),
        ({"Size": "-1"}, "has a Size that is none"),
        ({"Version": "1;rm"}, "has a Version that is none"),
    ],
)
def test_an_entry_that_could_not_be_locked_is_told(vendor: Vendor, fields: dict[str, str], told: str) -> None:
    vendor.archive.add("node", "30")
    key = ("bookworm", "node", "30")
    for field, value in fields.items():
        lines = vendor.archive.packages[key].splitlines()
        vendor.archive.packages[key] = "".join(
            f"{field}: {value}\n" if line.startswith(f"{field}:") else f"{line}\n" for line in lines
        )
    vendor.archive.publish(date=1_700_000_001)
    vendor.wish("node")
    with pytest.raises(FetchError, match=f"cannot use the archive 'vendor': its entry of 'node' {told}"):
        vendor.lock()


def test_keys_are_public_ones(vendor: Vendor, tmp_path: Path) -> None:
    vendor.wish("node")
    key = tmp_path / "keys/v.asc"
    vendor.signer.public(key, armoured=False)
    assert places(vendor.lock())["node"] == ("22.1-1", "vendor")
    for data, told in (
        (vendor.signer.secret(), "there is a private key in it"),
        (b"nonsense", "it holds no public keys of openpgp"),
        (b"-----BEGIN PGP MESSAGE-----\n", "something else than public keys"),
    ):
        key.write_bytes(data)
        with pytest.raises(DefinitionError, match=r"instar.yaml:6:\d+: image.archives.vendor.signed_by: .*" + told):
            vendor.lock()
    key.unlink()
    with pytest.raises(DefinitionError, match="no such file"):
        vendor.lock()


def test_an_archive_of_the_machines_own_gives_only_what_is_named(vendor: Vendor) -> None:
    own = vendor.author.archive
    own.more = ("bookworm-backports",)
    own.add("node", "24~bpo", suite="bookworm-backports", depends="libc6")
    own.add("libc6", "3~bpo", suite="bookworm-backports")
    own.publish()
    own.sources(vendor.author.folder / "sources.list")
    vendor.author.write("perl", archives="backports: {suites: bookworm-backports, packages: [node]}")
    lock = vendor.lock()
    assert places(lock)["node"] == ("24~bpo", "backports")
    assert places(lock)["libc6"] == ("2.36-9", None)
    loaded = load(vendor.author.folder / "instar.yaml")
    fetch_all(lock, loaded.definition, Cache(vendor.author.folder / "other cache"), silent)
    vendor.author.write("perl", archives="backports: {suites: nowhere, packages: [node]}")
    with pytest.raises(ResolveError, match=r"instar.yaml:6:\d+: cannot find 'nowhere': none of this machine's apt"):
        vendor.lock()


def test_a_lock_names_no_archive_that_was_not_asked_for(vendor: Vendor, tmp_path: Path) -> None:
    vendor.wish("node")
    file = tmp_path / "instar.lock"
    write(file, vendor.lock())
    text = file.read_text()
    for wrong in (
        text.replace('"archive": "vendor"', '"archive": "other"'),
        text.replace('"instar-lock": 3', '"instar-lock": 2'),
        text.replace('"suites": ["bookworm"]', '"suites": ["../x"]'),
    ):
        assert wrong != text
        file.write_text(wrong)
        with pytest.raises(LockError):
            read(file)


def test_errors_have_the_exit_status_of_what_failed(vendor: Vendor) -> None:
    vendor.wish("node")
    vendor.archive.folder.joinpath("dists/bookworm/InRelease").unlink()
    vendor.archive.folder.joinpath("dists/bookworm/Release").unlink()
    with pytest.raises(InstarError, match="there is no Release file at") as caught:
        vendor.lock()
    assert caught.value.exit_status == 1


def test_the_same_version_elsewhere_is_not_taken_for_it(vendor: Vendor) -> None:
    vendor.author.archive.add("node", "22.1-1", content=b"another", depends="libc6")
    vendor.author.archive.publish(date=1_700_000_001)
    vendor.wish("node")
    lock = vendor.lock()
    assert places(lock)["node"] == ("22.1-1", "vendor")
    assert places(vendor.lock(lock, anew=True))["node"] == ("22.1-1", "vendor")


def test_this_machines_own_archive_is_not_older_than_the_lock_either(vendor: Vendor) -> None:
    vendor.author.write("perl")
    vendor.author.archive.publish(date=1_710_000_000)
    lock = vendor.lock()
    vendor.author.archive.publish(date=1_700_000_000)
    shutil.rmtree(vendor.author.folder / "the cache/apt")
    with pytest.raises(FetchError, match="cannot use the archive of 'bookworm': 'bookworm' is of 2023-11-14"):
        vendor.lock(lock, anew=True)


def test_a_list_that_nobody_could_hold_in_memory_is_not_read(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    vendor.wish("node")
    monkeypatch.setattr(lists, "LIST_LIMIT_BYTES", 100)
    with pytest.raises(InstarError, match=r"a list of packages of .* has [0-9,]+ bytes, more than the 100 that are"):
        vendor.lock()


def test_a_date_that_no_clock_here_shows_is_told(vendor: Vendor) -> None:
    vendor.archive.extra = "Valid-Until: Sat, 31 Dec 2090 23:59:60 UTC\n"
    vendor.archive.publish()
    vendor.wish("node")
    with pytest.raises(InstarError, match="a date in it is none: second must be in"):
        vendor.lock()


@pytest.mark.parametrize(
    "label",
    [
        "Ven\x1b[31mdor",
        "Ven\tdor",
        "Ven\x0bdor\u2028\x85",
        "Ven\n dor",
        "Ven\n file:/x/\tx\tmain/Packages\t/etc/shadow\tx",
        "Ven\n " + "0" * 32 + "\tfile:/x/\tx\tmain/Packages\t/etc/shadow\tx",
    ],
)
def test_what_an_archive_calls_itself_is_read_as_text(vendor: Vendor, label: str) -> None:
    vendor.archive.label = label + "x" * 300
    vendor.archive.publish(date=1_700_000_001)
    vendor.wish("node")
    lock = vendor.lock()
    file = vendor.author.folder / "instar.lock"
    write(file, lock)
    assert read(file) == lock
    assert [len(one.label) for one in lock.suites if one.archive] == [200]
