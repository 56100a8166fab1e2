"""Certificates on disk: state, and no part of any release. Keys are made here, are 0600, and go nowhere else.

certificates/
├── acme/NAME/               one folder for each certificate, by where it comes from and what it is called
│   ├── certificate.pem      the certificate, those that lead to its root, and its key: one file, so that they fit
│   ├── record.json          what is in it, when it is renewed, what failed
│   ├── next.key             the key of the order that is under way
│   └── order.json           that order: where it goes on after a crash
├── internal/NAME/           of this machine's own authority
├── files/SERVICE--ENV/      copies of an author's files
├── accounts/DIGEST/key.pem  the account at the directory whose address has that digest
└── authority/root.pem       the certificate and the key of this machine's own authority

A file is there whole or not at all. A key is written before anything is asked for with it, an order's address before it
is followed; ``certificate.pem`` is written before its record, which is made again from it where the two differ.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from instar import durable
from instar.certificates.fingerprint import fingerprint_of
from instar.certificates.record import CertificateRecord, Order
from instar.errors import HostError
from instar.model.certificate import SOURCES, Certificate, Source, WantedCertificate
from instar.model.codec import from_json, parse, to_json

T = TypeVar("T")
_LIMIT_BYTES: Final = 1 << 20


class CertificateFolder:
    """Everything that is kept of one certificate."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def record(self) -> CertificateRecord:
        """Return what is known of it: nothing where there is nothing, or it is damaged. Raises HostError."""
        found = self._read_json("record.json", CertificateRecord) or CertificateRecord()
        pem = self.pem()
        held = fingerprint_of(pem) if pem is not None else None
        if (found.certificate.fingerprint if found.certificate else None) == held:
            return found
        return CertificateRecord(certificate=_facts(pem), authority=found.authority, recorded=found.recorded)

    def pem(self) -> bytes | None:
        """Return the certificate, those that lead to its root, and its key; None where there is none that is whole."""
        found = self._read("certificate.pem")
        return (
            found if found is not None and fingerprint_of(found) is not None and b"PRIVATE KEY-----" in found else None
        )

    def put(self, chain: bytes, key: bytes, record: CertificateRecord) -> None:
        """Make this the certificate, whose order has ended. Raises HostError."""
        with self._writing():
            durable.write(self.path / "certificate.pem", chain + key)
            self._write_record(record)
            self.drop_order()

    def note(self, record: CertificateRecord) -> None:
        """Keep what is known of it. Raises HostError."""
        with self._writing():
            self._write_record(record)

    def order(self) -> Order | None:
        return self._read_json("order.json", Order)

    def order_key(self) -> bytes | None:
        return self._read("next.key")

    def begin_order(self, order: Order, key: bytes) -> None:
        """Keep an order and its key, before either is used. Raises HostError."""
        with self._writing():
            durable.write(self.path / "next.key", key)
        self.keep_order(order)

    def keep_order(self, order: Order) -> None:
        with self._writing():
            durable.write(self.path / "order.json", _json(order))

    def drop_order(self) -> None:
        for name in ("order.json", "next.key"):
            (self.path / name).unlink(missing_ok=True)

    def written_at(self) -> datetime:
        """Return when something of it was written last. Raises HostError."""
        try:
            newest = max(path.stat().st_mtime for path in (self.path, *self.path.iterdir()))
        except OSError as error:
            raise HostError(f"cannot read '{self.path}': {error.strerror}") from error
        return datetime.fromtimestamp(newest, UTC)

    def remove(self) -> None:
        """Remove all of it. Raises HostError."""
        try:
            shutil.rmtree(self.path)
        except OSError as error:
            raise HostError(f"cannot remove '{self.path}': {error.strerror}") from error

    def _write_record(self, record: CertificateRecord) -> None:
        durable.write(self.path / "record.json", _json(record))

    def _read_json(self, name: str, kind: type[T]) -> T | None:
        data = self._read(name)
        if data is None:
            return None
        with contextlib.suppress(ValueError):
            return from_json(kind, parse(data))
        return None

    def _read(self, name: str) -> bytes | None:
        return read_state(self.path / name)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with written_in(self.path):
            yield


class CertificateStore:
    """The certificates of one state directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, wanted: WantedCertificate) -> CertificateFolder:
        return CertificateFolder(self.root / wanted.source / wanted.key)

    def held(self) -> Iterator[tuple[Source, CertificateFolder]]:
        """Yield the source and the folder of everything that is kept, wanted or not; a folder is called as its key."""
        for source in SOURCES:
            yield from ((source, CertificateFolder(path)) for path in sorted(self.root.glob(f"{source}/*/")))

    def account(self, digest: str) -> Path:
        return self.root / "accounts" / digest / "key.pem"

    @property
    def authority(self) -> Path:
        return self.root / "authority"


def read_state(path: Path) -> bytes | None:
    """Return what a file of the state holds, None where there is none or it is larger than it can be. Raises
    HostError."""
    try:
        return durable.read(path, _LIMIT_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise HostError(f"cannot read '{path}': {error.strerror}") from error


@contextlib.contextmanager
def written_in(folder: Path) -> Iterator[None]:
    """Make ``folder``, for who has the state directory alone, and say of what cannot be written why. Raises
    HostError."""
    try:
        for one in reversed([folder, *folder.parents]):
            if not one.is_dir():
                one.mkdir(exist_ok=True, mode=0o700)
        yield
    except OSError as error:
        raise HostError(f"cannot write to '{folder}': {error.strerror}") from error


def _facts(pem: bytes | None) -> Certificate | None:
    if pem is None:
        return None
    from instar.certificates import pem as texts

    try:
        return texts.facts(texts.read_chain(pem)[0])
    except texts.Unfit:
        return None


def _json(value: Any) -> bytes:
    return json.dumps(to_json(value), indent=1, sort_keys=True).encode()
