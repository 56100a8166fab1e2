"""Headers that we write, read by the standard library's tarfile and by our own reader."""

from __future__ import annotations

import io
import tarfile

import pytest

from instar.store.header import DIRECTORY, HARD_LINK, REGULAR, SYMLINK, Entry, encode, padding
from instar.store.members import Malformed, Members, Stream


def ours(data: bytes) -> list[Entry]:
    return list(Members(Stream(iter([data]), limit_bytes=1 << 40)))


def theirs(data: bytes) -> tarfile.TarInfo:
    with tarfile.open(fileobj=io.BytesIO(data + bytes(1024)), errors="surrogateescape") as archive:
        member = archive.next()
    assert member is not None
    return member


@pytest.mark.parametrize(
    "entry",
    [
        Entry(name=b"etc/hosts", kind=REGULAR, mode=0o644, mtime=1_700_000_000),
        Entry(name=b"usr/bin/su", kind=REGULAR, mode=0o4755, uid=1, gid=2),
        Entry(name=b"var/", kind=DIRECTORY, mode=0o1777),
        Entry(name=b"bin", kind=SYMLINK, mode=0o777, link=b"usr/bin"),
        Entry(name=b"b", kind=HARD_LINK, mode=0o644, link=b"a"),
        Entry(name=b"n" * 100, kind=REGULAR),
        Entry(name=b"n" * 101, kind=REGULAR),
        Entry(name="größe".encode(), kind=SYMLINK, link="über".encode()),
        Entry(name=b"not-utf8-\xff\xfe", kind=REGULAR),
        Entry(name=b"line\nbreak", kind=REGULAR),
        Entry(name=b"l", kind=SYMLINK, link=b"t" * 300),
        Entry(name=b"rich", kind=REGULAR, uid=2**32 - 2, gid=3_000_000),
        Entry(name=b"x", kind=REGULAR, xattrs={"user.one": b"\0\n=\xff", "security.capability": b"\1\0\0\2"}),
    ],
    ids=lambda entry: repr(entry.name[:12]),
)
def test_what_is_written_is_read_again(entry: Entry) -> None:
    data = encode(entry)
    assert len(data) % 512 == 0
    assert ours(data) == [entry]
    member = theirs(data)
    assert member.name.encode("utf-8", "surrogateescape") == entry.name.rstrip(b"/")
    assert member.linkname.encode("utf-8", "surrogateescape") == entry.link
    assert (member.mode, member.uid, member.gid, int(member.mtime)) == (entry.mode, entry.uid, entry.gid, entry.mtime)
    assert member.type == entry.kind
    assert (member.uname, member.gname) == ("", "")


def test_a_size_of_eight_gibibytes_and_more_is_said() -> None:
    data = encode(Entry(name=b"huge", kind=REGULAR, size=9 << 30))
    assert theirs(data).size == 9 << 30


def test_plain_names_need_no_extended_header() -> None:
    assert len(encode(Entry(name=b"a" * 100, kind=REGULAR, size=0o77777777777, uid=0o7777777))) == 512


@pytest.mark.parametrize("value_length", [*range(80, 110), *range(980, 1000)])
def test_an_extended_record_counts_its_own_length(value_length: int) -> None:
    entry = Entry(name=b"x", kind=REGULAR, xattrs={"user.v": b"v" * value_length})
    assert ours(encode(entry)) == [entry]


def test_a_header_is_the_same_bytes_for_ever() -> None:
    block = encode(Entry(name=b"etc/hosts", kind=REGULAR, mode=0o644, uid=0, gid=0, size=7, mtime=1_700_000_000))
    expected = (
        (b"etc/hosts".ljust(100, b"\0") + b"0000644\0" + b"0000000\0" + b"0000000\0")
        + (b"00000000007\0" + b"14524770400\0" + b"011102\0 " + b"0" + bytes(100))
        + (b"ustar\x0000" + bytes(64) + b"0000000\0" + b"0000000\0").ljust(255, b"\0")
    )
    assert block == expected


def test_an_attribute_that_a_record_cannot_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"user\.a=b"):
        encode(Entry(name=b"x", kind=REGULAR, xattrs={"user.a=b": b""}))


def tarfile_bytes(form: int, **fields: object) -> bytes:
    member = tarfile.TarInfo()
    for name, value in fields.items():
        setattr(member, name, value)
    return member.tobuf(form)


def test_gnu_long_names_and_binary_numbers_are_read() -> None:
    data = tarfile_bytes(tarfile.GNU_FORMAT, name="n" * 300, linkname="l" * 200, type=tarfile.SYMTYPE, uid=3_000_000)
    (entry,) = ours(data)
    assert (entry.name, entry.link, entry.uid) == (b"n" * 300, b"l" * 200, 3_000_000)


def test_a_name_in_two_halves_is_read() -> None:
    (entry,) = ours(tarfile_bytes(tarfile.USTAR_FORMAT, name="d" * 90 + "/" + "f" * 80))
    assert entry.name == b"d" * 90 + b"/" + b"f" * 80


def test_a_fraction_of_a_second_is_dropped() -> None:
    (entry,) = ours(tarfile_bytes(tarfile.PAX_FORMAT, name="f", mtime=12.75))
    assert entry.mtime == 12


def test_data_is_given_and_what_nobody_reads_is_passed_over() -> None:
    data = b"".join(
        encode(Entry(name=name, kind=REGULAR, size=len(body))) + body + padding(len(body))
        for name, body in ((b"a", b"1" * 700), (b"b", b"2" * 512), (b"c", b"3"))
    )
    members = Members(Stream((data[at : at + 100] for at in range(0, len(data), 100)), limit_bytes=1 << 20))
    read = {entry.name: b"".join(members.content()) for entry in members if entry.name != b"b"}
    assert read == {b"a": b"1" * 700, b"c": b"3"}


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"\x01" * 512, "octal|checksum"),
        (encode(Entry(name=b"a", kind=REGULAR))[:300], "ends in the middle"),
        (encode(Entry(name=b"a", kind=REGULAR, size=600)) + bytes(512), "ends in the middle"),
        (tarfile_bytes(tarfile.PAX_FORMAT, name="a", pax_headers={"size": "-5"}), "number is"),
        (tarfile_bytes(tarfile.PAX_FORMAT, name="a", pax_headers={"uid": "4294967295"}), "number is"),
        (tarfile_bytes(tarfile.PAX_FORMAT, name="a", pax_headers={"mtime": "1e9"}), "mtime is"),
        (tarfile_bytes(tarfile.PAX_FORMAT, name="a", pax_headers={"GNU.sparse.major": "1"}), "sparse"),
        (tarfile_bytes(tarfile.GNU_FORMAT, name="a", type=tarfile.GNUTYPE_SPARSE), "sparse"),
        (tarfile_bytes(tarfile.PAX_FORMAT, name="a", pax_headers={"path": "b\0c"}), "zero byte"),
        (tarfile_bytes(tarfile.PAX_FORMAT, name="x" * (2 << 20)), "extended header has"),
    ],
)
def test_what_is_no_tar_is_refused(data: bytes, cause: str) -> None:
    with pytest.raises(Malformed, match=cause):
        ours(data)


def test_extended_headers_do_not_pile_up() -> None:
    def header(kind: bytes) -> bytes:
        block = bytearray(tarfile.TarInfo.create_pax_global_header({"comment": "x" * 400_000}))
        block[156:157], block[148:156] = kind, b" " * 8
        block[148:156] = b"%06o\0 " % sum(block[:512])
        return bytes(block)

    member = encode(Entry(name=b"a", kind=REGULAR))
    assert len(ours((header(b"x") * 2 + member) * 2)) == 2
    assert len(ours(header(b"g") + (header(b"x") + member) * 3)) == 3
    for hostile in (header(b"x") * 3, (header(b"g") + member) * 3, header(b"g") + header(b"x") * 2):
        with pytest.raises(Malformed, match="extended headers have more than 1,048,576 bytes"):
            ours(hostile)


@pytest.mark.parametrize(
    "record", [b"", b"x", b"5 a=", b"999 a=b\n", b"0 a=b\n", b"6 a=bc", b"6 abc\n", b"5 =b\n", b"\xff"]
)
def test_a_damaged_extended_header_is_refused(record: bytes) -> None:
    body = record or b" "
    data = encode(Entry(name=b"p", kind=b"x", size=len(body))) + body + padding(len(body))
    with pytest.raises(Malformed):
        ours(data + encode(Entry(name=b"a", kind=REGULAR)))


def test_more_than_the_limit_is_refused() -> None:
    data = encode(Entry(name=b"a", kind=REGULAR, size=5000)) + bytes(5120)
    with pytest.raises(Malformed, match="allowed"):
        list(Members(Stream((data[at : at + 512] for at in range(0, len(data), 512)), limit_bytes=4096)))
