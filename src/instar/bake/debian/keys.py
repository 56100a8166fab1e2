"""Keys that the scripts of packages make: another one wherever an image is baked, and the same one in every instance of
it. None is ever part of an image: from bake format 2 on they are left out, and format 1, which never did that, refuses.

A key is known by where it lies (``_KNOWN``), by what is written in it (``_MARKS``), or by being a small file that not
everybody may read, with something in it that is called a secret or looks random. What repeats a secret goes with it,
and the certificate beside a key. What packages bring in their files is no key of anybody's: it is public.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from instar.bake.debian.made import MadeFile, Packages, made_by_scripts
from instar.frozen import dataclass

_READ_BYTES = 1 << 20
_SMALL_BYTES = 16 << 10
_STORES = (b".p12", b".pfx", b".keytab", b".jceks")

# Paths, and what lies there.
_KNOWN: tuple[tuple[str, str], ...] = (
    (r"etc/bind/rndc\.key", "the key of rndc"),
    (r"etc/munge/munge\.key", "the key of munge"),
    (r"etc/ldap/slapd\.d/.*|var/lib/ldap/.*", "the directory of slapd, with the hash of its administrator's password"),
    (r"(.*/)?\.erlang\.cookie", "a cookie of Erlang"),
    (r"etc/dropbear/dropbear_.*_host_key", "a host key of SSH"),
    (r"etc/ssh/ssh_host_.*_key(\.pub)?", "a host key of SSH"),
    (r"etc/dbconfig-common/[^/]*\.conf|var/lib/ucf/cache/:etc:dbconfig-common:.*", "the password of a database"),
    (r"(.*/)?private-keys-v1\.d/.*|(.*/)?secring\.gpg", "a private key of GnuPG"),
    (r"var/lib/phpmyadmin/blowfish_secret\.inc\.php|etc/phpmyadmin/config-db\.php", "a secret of phpMyAdmin"),
    (r"var/lib/ucf/cache/:etc:phpmyadmin:config-db\.php", "a secret of phpMyAdmin"),
    (r"etc/mysql/debian\.cnf", "the password of the maintainer's user in MySQL"),
    (r"var/lib/samba/private/(secrets|passdb)\.tdb", "the secrets of Samba"),
    (r"var/lib/heimdal-kdc/(heimdal\.(db|mdb)|m-key)", "the keys of Heimdal's realm"),
    (r"var/lib/snmp/snmpd\.conf", "the engine id and keys of snmpd"),
)
_MARKS: tuple[tuple[bytes, str], ...] = (
    (rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----[\r\n]+[A-Za-z0-9+/=:,. \t\r\n-]{48}", "a private key"),
    (rb"PuTTY-User-Key-File-", "a private key"),
    (rb"AGE-SECRET-KEY-1", "a private key"),
    (rb"(?m)^Private-key-format: ", "a private key of DNSSEC"),
)
_KNOWN_PATHS = tuple((re.compile(pattern.encode()), what) for pattern, what in _KNOWN)
_KNOWN_MARKS = tuple((re.compile(pattern), what) for pattern, what in _MARKS)
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_ACCOUNTS = re.compile(rb"etc/(shadow|gshadow)-?")
_PUBLIC = re.compile(rb"-----BEGIN (?!.*PRIVATE)([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_ALONE = re.compile(rb"[!-.0-~][!-~]{15,}\n?")
_HEXADECIMAL = re.compile(rb"(?=.*[0-9])(?=.*[a-fA-F])(?:[0-9a-f]{24,}|[0-9A-F]{24,})")
_TOKEN = re.compile(rb"[A-Za-z0-9+/_=$]{16,}")
_NAMED = re.compile(
    rb"(?i)(?:pass(?:word|wd|phrase)?|secret|cookie|salt|(?:api|auth|des|hash|secret)_?key)"
    rb"[\"'\])]*\s*(?:=>|[:=,])\s*(?:'(?!/[a-z]+/)([^']{8,})'|\"(?!/[a-z]+/)([^\"]{8,})\"|(?![/$])([^\s\"';]{8,}))"
)
_TEXT = re.compile(rb"[\t\n\r\x20-\x7e\x80-\xff]*\Z")
_JKS, _JKS_PRIVATE = b"\xfe\xed\xfe\xed", b"\x00\x00\x00\x01"


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundKey:
    """``what`` it is, for people; ``package``: whose script made it, None where nobody can tell."""

    path: bytes
    shown: str
    file: Path
    what: str
    package: str | None

    def __str__(self) -> str:
        return f"'{self.shown}': {self.what}, made by a script of {self.package or 'a package'}"


def find_keys(tree: Path) -> tuple[FoundKey, ...]:
    """Return the keys that scripts made in the tree of a step that installed packages. Raises OSError."""
    packages = Packages(tree)
    made = list(made_by_scripts(tree, packages))
    found = {one.path: (one, what) for one in made if (what := _what(one, packages))}
    values = {value for one, _ in found.values() for value in _values(one)}
    for one in made if values else ():
        if one.path not in found and _holds(one, values):
            found[one.path] = one, "a copy of a secret"
    folders = {path.rpartition(b"/")[0] for path in found}
    for one in made:
        if one.path not in found and one.path.rpartition(b"/")[0] in folders and _is_certificate(one):
            found[one.path] = one, "the certificate of a key"
    return tuple(
        FoundKey(path=path, shown=one.shown, file=one.file, what=what, package=packages.maker(path))
        for path, (one, what) in sorted(found.items())
    )


def private_keys(tree: Path) -> Iterator[str]:
    """Yield the paths of private keys in the tree of any step: of files that not everybody may read, or named so."""
    for folder, _, names in os.walk(tree):
        for name in names:
            file = Path(folder, name)
            status = file.lstat()
            told = name.endswith((".key", ".pem")) or not status.st_mode & 0o004
            if told and stat.S_ISREG(status.st_mode) and 0 < status.st_size <= _READ_BYTES:
                content = file.read_bytes()
                if any(mark.search(content) for mark, _ in _KNOWN_MARKS):
                    yield f"/{file.relative_to(tree)}"


def looks_secret(content: bytes) -> bool:
    """Tell whether what is in a file looks like a key or a secret."""
    marked = any(mark.search(content) for mark, _ in _KNOWN_MARKS)
    return marked or (0 < len(content) <= _SMALL_BYTES and _has_secret(content, ()))


def _what(made: MadeFile, packages: Packages) -> str | None:
    """Say what kind of key a file is, None when it is none."""
    for path, what in _KNOWN_PATHS:
        if path.fullmatch(made.path):
            return what
    if made.path.endswith(_STORES):
        return "a store of keys"
    if made.status.st_size == 0 or made.status.st_size > _READ_BYTES:
        return None
    content = made.read(_READ_BYTES)
    for mark, what in _KNOWN_MARKS:
        if mark.search(content):
            return what
    if content.startswith(_JKS) and content[12:16] == _JKS_PRIVATE:
        return "a store of keys"
    if made.status.st_mode & 0o004 or len(content) > _SMALL_BYTES or _ACCOUNTS.fullmatch(made.path):
        return None
    return "what looks like a secret" if _has_secret(content, packages.texts_like(made.path)) else None


def _is_certificate(made: MadeFile) -> bool:
    return 0 < made.status.st_size <= _SMALL_BYTES and _CERTIFICATE in made.read(_SMALL_BYTES)


def _holds(made: MadeFile, values: Collection[bytes]) -> bool:
    if not 0 < made.status.st_size <= _READ_BYTES:
        return False
    content = made.read(_READ_BYTES)
    return any(value in content for value in values)


def _values(made: MadeFile) -> Iterator[bytes]:
    """Yield the secrets that are written out in a small file of text."""
    if made.status.st_size <= _SMALL_BYTES:
        content = made.read(_SMALL_BYTES)
        if _TEXT.match(content):
            yield from (value for value in _secrets(content) if len({_kind(letter) for letter in value}) > 1)


def _has_secret(content: bytes, public: Iterable[bytes]) -> bool:
    """Tell whether there is something in ``content`` that looks drawn by lot, and is not in ``public``."""
    if not _TEXT.match(content):
        return len(content) >= 16 and _entropy(content) > 0.75 * math.log2(min(256, len(content)))
    secrets = {content.strip()} if _ALONE.fullmatch(content) else set(_secrets(content))
    for text in public if secrets else ():
        secrets = {secret for secret in secrets if secret not in text}
    return bool(secrets)


def _secrets(content: bytes) -> Iterator[bytes]:
    for line in _PUBLIC.sub(b"", content).splitlines():
        if line.lstrip().startswith((b"#", b";", b"//", b"*")):
            continue
        yield from (token for token in _TOKEN.findall(line) if _is_random(token))
        yield from (b"".join(quoted) for quoted in _NAMED.findall(line))


def _is_random(token: bytes) -> bool:
    """Words and numbers change between kinds of letters seldom; what is drawn by lot does it all the time."""
    if _HEXADECIMAL.fullmatch(token):
        return True
    kinds = [_kind(letter) for letter in token]
    changes = sum(1 for one, next_ in itertools.pairwise(kinds) if one != next_ and "other" not in (one, next_))
    return changes * 5 >= len(token) * 2 and "digit" in kinds and len(set(token)) * 2 >= min(len(token), 16)


def _kind(letter: int) -> str:
    if 0x30 <= letter <= 0x39:
        return "digit"
    if 0x41 <= letter <= 0x5A:
        return "upper"
    return "lower" if 0x61 <= letter <= 0x7A else "other"


def _entropy(content: bytes) -> float:
    counts = Counter(content)
    return -sum(count / len(content) * math.log2(count / len(content)) for count in counts.values())
