"""What scripts make anew on every machine though it is no key: a moment, a place or a draw that is written in a file.

From bake format 2 on such a file is written so that it says the same everywhere and means what it meant; or it is left
out, when a program makes it anew by itself:

- Java's store of trusted certificates: each entry is of the epoch
- parameters for Diffie-Hellman: the group ffdhe2048 of RFC 7919 instead of a new one that nobody has checked
- Berkeley databases (``/etc/aliases.db``): the ids of the file, what lay in memory, and when postalias wrote it
- formats of LuaTeX and of Knuth's own TeX, and logs: left out; ``mktexfmt`` makes a format where one is missing
- ucf's list of hashes: without the files that were left out, and no older copies of it
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from instar.bake.debian.made import MadeFile, Packages, made_by_scripts

_READ_BYTES = 64 << 20
_LEFT_OUT = re.compile(rb"var/lib/texmf/.*(?:/(?:tex|lua[^/]*)/[^/]*\.fmt|\.log)|var/lib/ucf/hashfile\.\d+")
_HASHES = b"var/lib/ucf/hashfile"

_JKS = b"\xfe\xed\xfe\xed"
_JKS_TRUSTED = 2
_JKS_DIGEST_BYTES = 20
_JKS_SALT = b"Mighty Aphrodite"  # Source: sun.security.provider.JavaKeyStore
_JKS_PASSWORD = "changeit".encode("utf-16-be")

_DH = re.compile(rb"-----BEGIN DH PARAMETERS-----\s[A-Za-z0-9+/=\s]+-----END DH PARAMETERS-----")
_FFDHE2048 = b"""-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----"""

_DB_MAGIC = slice(12, 16)
_DB_KINDS = tuple(struct.pack("<I", number) for number in (0x061561, 0x053162))  # hash, btree
_DB_PAGE = slice(20, 24)
_DB_ID = slice(52, 72)
_DB_ENTRIES_AT, _DB_TYPE_AT, _DB_HEADER_BYTES = 20, 25, 26
_DB_TYPES = (2, 3, 5, 13)  # pages of entries: between their list and the entries nothing is ever written
_ALIASES_AT = re.compile(rb"\x01\d{10}\x01YP_LAST_MODIFIED")  # as postalias writes it


def settle(tree: Path, removed: Collection[bytes], epoch: int) -> None:
    """Settle the moments in ``tree``, from which what is in ``removed`` was left out. Raises OSError."""
    gone = {b"/" + path for path in removed}
    for made in made_by_scripts(tree, Packages(tree)):
        if _LEFT_OUT.fullmatch(made.path):
            made.file.unlink()
        elif made.path == _HASHES:
            _rewrite(made, lambda content: _without(content, gone))
        elif 0 < made.status.st_size <= _READ_BYTES and (settled := _settler(made.read(4096), epoch)):
            _rewrite(made, settled)


def _settler(start: bytes, epoch: int) -> Callable[[bytes], bytes] | None:
    """Return what settles a file that begins so, None when nothing has to."""
    if start.startswith(_JKS):
        return lambda content: trust_store(content, epoch)
    if start[_DB_MAGIC] in _DB_KINDS:
        return lambda content: database(content, epoch)
    if b"-----BEGIN DH PARAMETERS-----" in start:
        return lambda content: _DH.sub(_FFDHE2048, content)
    return None


def trust_store(content: bytes, epoch: int) -> bytes:
    """Return Java's key store with every entry of the epoch, when it holds trusted certificates alone and is whole.

    Source: sun.security.provider.JavaKeyStore.engineStore, format version 2.
    """
    body, digest = content[:-_JKS_DIGEST_BYTES], content[-_JKS_DIGEST_BYTES:]
    if hashlib.sha1(_JKS_PASSWORD + _JKS_SALT + body, usedforsecurity=False).digest() != digest:
        return content
    try:
        dates = list(_dates(body))
    except (ValueError, struct.error):
        return content
    settled = bytearray(body)
    for at in dates:
        struct.pack_into(">Q", settled, at, epoch * 1000)
    whole = bytes(settled)
    return whole + hashlib.sha1(_JKS_PASSWORD + _JKS_SALT + whole, usedforsecurity=False).digest()


def _dates(body: bytes) -> Iterator[int]:
    """Yield where the date of each entry is. Raises ValueError, struct.error for a store that isn't known."""
    _, version, count = struct.unpack_from(">III", body)
    at = 12
    for _ in range(count):
        (tag,) = struct.unpack_from(">I", body, at)
        if version != 2 or tag != _JKS_TRUSTED:
            raise ValueError("another store")
        at = _after_text(body, at + 4)
        yield at
        at = _after_text(body, at + 8)
        (length,) = struct.unpack_from(">I", body, at)
        at += 4 + length
    if at != len(body):
        raise ValueError("there is more in it")


def _after_text(body: bytes, at: int) -> int:
    (length,) = struct.unpack_from(">H", body, at)
    return at + 2 + int(length)


def database(content: bytes, epoch: int) -> bytes:
    """Return a Berkeley database with fixed ids of its file, and with postalias's own time as the epoch.

    Source: Berkeley DB 5.3, dbinc/db_page.h.
    """
    (page_bytes,) = struct.unpack("<I", content[_DB_PAGE])
    if not 512 <= page_bytes <= 65_536 or page_bytes & (page_bytes - 1) or len(content) % page_bytes:
        return content
    settled = bytearray(content)
    for start in range(0, len(content), page_bytes):
        page = memoryview(settled)[start : start + page_bytes]
        if page[_DB_MAGIC] in _DB_KINDS:
            page[_DB_ID] = bytes(_DB_ID.stop - _DB_ID.start)
        elif page[_DB_TYPE_AT] in _DB_TYPES:
            entries, used_from = struct.unpack_from("<HH", page, _DB_ENTRIES_AT)
            free = slice(_DB_HEADER_BYTES + 2 * entries, min(used_from, page_bytes))
            page[free] = bytes(max(0, free.stop - free.start))
    return _ALIASES_AT.sub(b"\x01%010d\x01YP_LAST_MODIFIED" % epoch, bytes(settled))


def _without(content: bytes, gone: Collection[bytes]) -> bytes:
    """Return ucf's list of hashes without the files in ``gone``."""
    return b"".join(
        line for line in content.splitlines(keepends=True) if line.split()[1:2] not in [[one] for one in gone]
    )


def _rewrite(made: MadeFile, settled: Callable[[bytes], bytes]) -> None:
    content = made.read(_READ_BYTES + 1)
    changed = settled(content)
    if changed != content:
        with made.file.open("r+b", buffering=0) as file:
            file.write(changed)
            file.truncate()
