"""What a backup is: a tar, plain or in an age file, that is written and read from its beginning to its end.

backup.json                     the first member: what it is of, and how much (:class:`Summary`)
ledger/instar.db                the ledger, an SQLite file, whatever the engine was
store/oci-layout, index.json, blobs/sha256/HEX    an OCI image layout with the images that releases need
secrets/key, secrets/HEX        secrets by their keyed digests, and the key; in none without the secrets
certificates/…                  certificates with their keys, accounts; likewise
recordings/NAME, evidence/NAME  what shells showed, and what drifted instances were like
machine/config.yaml             the machine's own file
machine/network.json            the subnet of its instances, for where they still run
volumes/SERVICE/ENV/NAME/…      the data of volumes, where it was asked for
manifest.json                   the last member: of each part (what stands before the first "/") how many members, how
                                many bytes, and the SHA-256 of all of it (:class:`Part`), and what volumes lack

A part's SHA-256 is over each member's head, as ``store/header.py`` writes it, followed by its data. The head of a file
with holes says where it has something (GNU's form PAX 1.0), and its data is that alone: so holes cost nothing to write
or read, and two files that differ have other bytes. The ledger is copied first: all that its releases need was there
then, and stays while the rest is read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from instar.errors import BackupDamaged, BackupError, BackupNewer
from instar.frozen import dataclass
from instar.model.codec import canonical, from_json, parse
from instar.model.digest import Digest
from instar.model.names import NAME
from instar.store import sparse
from instar.store.header import DIRECTORY, HARD_LINK, REGULAR, SYMLINK, Entry, encode

# from 2 on there are files with holes as such, from 3 on it is said what data of volumes is missing, from 4 on holes
# are not hashed as the zeros that they are
FORMAT: Final = 4
HOLES_HASHED: Final = 3  # the last of which a part's SHA-256 is over holes too
HASHED_LIMIT_BYTES: Final = 16 << 40  # that files with holes have together there: it takes hours to hash them
SPARSE_FILE_BYTES: Final = 1 << 42  # that a file with holes may have: there are file systems that can have no larger
SUMMARY: Final = b"backup.json"
MANIFEST: Final = b"manifest.json"
LEDGER: Final = b"ledger/instar.db"
MACHINE_FILE: Final = b"machine/config.yaml"
NETWORK: Final = b"machine/network.json"
SMALL_BYTES: Final = 16 << 20  # of the first and the last member
_ID: Final = re.compile(r"[0-9a-f]{32}")
_ZEROS: Final = bytes(1 << 20)
_STATE_ID: Final = re.compile(r"[0-9a-f]{6}")
_MACHINE: Final = re.compile(r"[^\x00-\x1f\x7f]{1,300}")
_SEGMENT: Final = rb"(?!\.\.?(?:/|\Z))[^/\0]{1,255}"
_HEX: Final = rb"[0-9a-f]{64}"
_FILES: Final = re.compile(
    rb"ledger/instar\.db|store/(?:oci-layout|index\.json|blobs/sha256/" + _HEX + rb")|secrets/(?:key|" + _HEX + rb")"
    rb"|certificates(?:/"
    + _SEGMENT
    + rb"){1,8}|(?:recordings|evidence)/"
    + _SEGMENT
    + rb"|machine/(?:config\.yaml|network\.json)"
)
_VOLUME: Final = re.compile(rb"volumes(?:/" + NAME.pattern.encode() + rb"){3}")
_IN_VOLUME: Final = re.compile(rb"(" + _VOLUME.pattern + rb")/" + _SEGMENT + rb"(?:/" + _SEGMENT + rb")*")
_BLOB: Final = re.compile(rb"store/blobs/sha256/(" + _HEX + rb")")


Lost = Mapping[str, tuple[str, ...]]
"""Of each volume (SERVICE/ENV NAME) which data of it is not in a backup, and why, for people."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptEnvironment:
    """One environment as the backup's ledger has it."""

    name: str
    provider: str
    of_one_machine: bool  # or any machine could act on it
    release: int | None
    image: Digest | None
    machine: str | None
    listen: tuple[str, ...]
    names: tuple[str, ...]  # that lead to it from outside
    secrets: bool  # whether its release has any
    volumes: tuple[str, ...]  # that its release has


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What a backup is of. ``schema`` is the number of the ledger's; ``shared`` where the ledger was, if it was no file
    of the machine; ``state_id`` and ``state`` the digits that mark what is the state directory's, and where it was."""

    format: int
    id: str
    at: datetime
    version: str
    schema: int
    ledger: str
    machine: str
    state: str
    state_id: str | None
    shared: str | None
    secrets: bool
    volumes: tuple[str, ...] | None
    environments: tuple[KeptEnvironment, ...]
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    members: int
    size_bytes: int
    sha256: str


class Tally:
    """Counts what a backup has, part by part, as it is written or read."""

    def __init__(self) -> None:
        self._counts: dict[str, list[int]] = {}
        self._hashes: dict[str, hashlib._Hash] = {}
        self._now = ""

    def begin(self, entry: Entry, head: bytes) -> None:
        """Count a member, whose ``head`` stands before its data."""
        self._now = entry.name.partition(b"/")[0].decode("utf-8", "replace")
        counts = self._counts.setdefault(self._now, [0, 0])
        counts[0] += 1
        counts[1] += entry.size
        self._hashes.setdefault(self._now, hashlib.sha256()).update(head)

    def add(self, data: bytes | memoryview) -> None:
        self._hashes[self._now].update(data)

    def add_zeros(self, count: int) -> None:
        while count > 0:
            self.add(memoryview(_ZEROS)[:count])
            count -= len(_ZEROS)

    def parts(self) -> Mapping[str, Part]:
        return {
            name: Part(members=members, size_bytes=size, sha256=self._hashes[name].hexdigest())
            for name, (members, size) in sorted(self._counts.items())
        }


def head_of(entry: Entry, regions: Sequence[sparse.Region] | None) -> bytes:
    """Return what stands before a member's data: its header, and of a file with holes where it has something."""
    if regions is None:
        return encode(entry)
    places = sparse.map_of(regions)
    size = len(places) + sum(length for _, length in regions)
    return encode(replace(entry, size=size), sparse.records_of(entry.name, entry.size)) + places


def read_summary(data: bytes, file: str) -> Summary:
    """Return what the first member of a backup says. Raises BackupNewer, BackupDamaged."""
    try:
        found = parse(data)
        number = found["format"]
        if isinstance(number, int) and number > FORMAT:
            raise BackupNewer(
                f"cannot read '{file}': Instar {found.get('version', '?')!s:.40} made it, in format {number}, and "
                f"format {FORMAT} is the newest that this one knows",
                hint="restore it with that version of Instar, or a newer one; nothing was changed",
            )
        summary = from_json(Summary, found)
        for what, form in ((summary.id, _ID), (summary.state_id or "000000", _STATE_ID), (summary.machine, _MACHINE)):
            if not form.fullmatch(what):
                raise ValueError(f"{what!r:.60} is not of the form that it has")
        return summary
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(file, f"what it says of itself cannot be read ({error!s:.200})") from error


def manifest_json(parts: Mapping[str, Part], lost: Lost) -> bytes:
    return canonical({"parts": parts, **({"lost": lost} if lost else {})})


def require_manifest(data: bytes, parts: Mapping[str, Part], file: str) -> Lost:
    """Return which data of volumes is not there, as the last member says. Raises BackupDamaged where it says other than
    what was read."""
    try:
        found = parse(data)
        said, lost = found["parts"], {str(one): tuple(map(str, texts)) for one, texts in found.get("lost", {}).items()}
        wrong = [name for name in sorted({*said, *parts}) if parse(canonical(parts.get(name))) != said.get(name)]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise damaged(file, "its manifest cannot be read") from None
    if wrong:
        raise damaged(file, f"its part '{wrong[0]!s:.40}' is not what was put in")
    if data != manifest_json(parts, lost):
        raise damaged(file, "its manifest cannot be read")
    return lost


def require_member(entry: Entry, file: str) -> None:
    """Raise BackupDamaged for a member that no backup has: a name that leads elsewhere, what is no file, what would be
    taken for a volume and is no folder."""
    if entry.kind == REGULAR and _FILES.fullmatch(entry.name):
        return
    if is_of_volumes(entry) and (entry.kind != HARD_LINK or _volume_of(entry.link) == _volume_of(entry.name)):
        return
    shown = entry.name[:200].decode("utf-8", "backslashreplace")
    raise damaged(file, f"there is '{shown}' in it, which no backup has")


def is_of_volumes(entry: Entry) -> bool:
    """Tell whether a member is a volume, or part of its data."""
    if entry.kind == DIRECTORY:
        name = entry.name.removesuffix(b"/")
        return _VOLUME.fullmatch(name) is not None or _volume_of(name) is not None
    return entry.kind in (REGULAR, SYMLINK, HARD_LINK) and _volume_of(entry.name) is not None


def _volume_of(name: bytes) -> bytes | None:
    """Return the volume in which a member of this name is."""
    found = _IN_VOLUME.fullmatch(name)
    return found[1] if found else None


def blob_of(entry: Entry) -> Digest | None:
    """Return the digest of the blob that a member is, None of any other."""
    found = _BLOB.fullmatch(entry.name)
    return Digest.from_hex(found[1].decode()) if found else None


def damaged(file: str, cause: str) -> BackupDamaged:
    return BackupDamaged(
        f"cannot use the backup '{file}': {cause}",
        hint="nothing was changed here; take another copy of it, or an older backup",
    )


def no_backup(file: str) -> BackupError:
    return BackupError(f"cannot read '{file}': it is no backup of Instar's", hint="instar backup FILE makes one")
