"""Why two files that are packed differ."""

from __future__ import annotations

import gzip
import io
import zipfile

from instar.bake.packed import first_difference
from instar.bake.packed import why_packed as why


def zipped(at: int, **files: str) -> bytes:
    with io.BytesIO() as made:
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in files.items():
                archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, at)), text)
        return made.getvalue()


def why_packed(one: bytes, two: bytes) -> str | None:
    return why(io.BytesIO(one), io.BytesIO(two))


def test_of_an_archive_it_is_said_whether_its_times_alone_differ() -> None:
    assert "only the times" in str(why_packed(zipped(2, one="a" * 40), zipped(4, one="a" * 40)))
    assert str(why_packed(zipped(2, one="a", two="b"), zipped(2, one="a"))) == "'two', which is packed in it, differs"
    assert str(why_packed(zipped(2, one="a"), zipped(2, one="b"))).startswith("'one', which is packed")


def test_of_gzip_it_is_the_time_in_its_head_or_what_is_in_it() -> None:
    assert "gzip -n" in str(why_packed(gzip.compress(b"text", mtime=1), gzip.compress(b"text", mtime=2)))
    assert (
        why_packed(gzip.compress(b"text", mtime=1), gzip.compress(b"other", mtime=1)) == "what is packed in it differs"
    )


def test_others_are_not_packed() -> None:
    assert why_packed(b"one", b"two") is None
    assert why_packed(b"", zipped(2, one="a")) is None
    assert why_packed(b"PK\x03\x04 and nothing", b"PK\x05\x06 and nothing") is None


def test_where_two_begin_to_differ() -> None:
    long = b"x" * (3 << 20)

    def at(one: bytes, two: bytes) -> int | None:
        return first_difference(io.BytesIO(one), io.BytesIO(two))

    assert at(long, long) is None
    assert at(long + b"a", long + b"b") == 3 << 20
    assert at(long, long + b"b") == 3 << 20
    assert at(b"a", b"b") == 0
