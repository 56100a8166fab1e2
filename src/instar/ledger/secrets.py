"""Secrets of a ledger that several share: a hash of the key that they are encrypted by, and their encrypted values.
And the key of the ledger's own, by which providers sign.

The key of secrets is never here. What is in a value, and how it is encrypted, is the business of whoever puts it in.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from instar.ledger.environments import Environments
from instar.ledger.events import Events
from instar.ledger.rows import environment_value
from instar.ledger.session import Session
from instar.model.digest import Digest
from instar.model.happenings import SecretKeyKnown
from instar.model.release import EnvironmentId

_IDENTITY = "SELECT hash FROM events WHERE seq = 1"
_FINGERPRINT = "SELECT fingerprint FROM secret_keys"
_SIGNING_KEY = "SELECT value FROM signing_keys"
_SET_SIGNING_KEY = "INSERT INTO signing_keys (one, value) VALUES (1, :value)"
_SIGNING_BYTES = 32
_SET_FINGERPRINT = "INSERT INTO secret_keys (one, fingerprint) VALUES (1, :fingerprint)"
_ALL = """
    SELECT s.environment AS id, e.service, e.environment, e.removed_at, s.name, s.digest
      FROM secrets s JOIN environments e ON e.id = s.environment WHERE s.value IS NOT NULL"""
_VALUE = "SELECT value FROM secrets WHERE environment = :id AND name = :name AND digest = :digest"
_ADD = "INSERT INTO secrets (environment, name, digest, value) VALUES (:id, :name, :digest, :value)"
_SET = "UPDATE secrets SET value = :value WHERE environment = :id AND name = :name AND digest = :digest"


class SecretName(NamedTuple):
    """Which secret a value is of."""

    environment: EnvironmentId
    name: str
    digest: Digest


class Secrets:
    """What is kept of secrets. A value is no decision: it comes and goes with the release that names it."""

    def __init__(self, session: Session, events: Events, environments: Environments) -> None:
        self._session = session
        self._events = events
        self._environments = environments

    def identity(self) -> str:
        """Return what tells this ledger from all others, wherever it is moved to: the hash of its first event."""
        row = self._session.row(_IDENTITY)
        return "" if row is None else str(row["hash"])

    def find_secret_key(self) -> Digest | None:
        """Return a hash of the key that digests of secrets are made by here; None as long as nobody has said."""
        row = self._session.row(_FINGERPRINT)
        return None if row is None else Digest(row["fingerprint"])

    def set_secret_key(self, fingerprint: Digest) -> None:
        """Write by which key digests of secrets are made here: once. Nothing when another process was first."""
        with self._events.transaction():
            if self.find_secret_key() is None:
                self._session.write(_SET_FINGERPRINT, fingerprint=fingerprint)
                self._events.record(SecretKeyKnown(fingerprint=fingerprint))

    def find_signing_key(self) -> bytes | None:
        """Return the key by which a provider signs what it makes; None as long as none was needed. It is in no event:
        whoever has that may sign."""
        row = self._session.row(_SIGNING_KEY)
        return None if row is None else bytes.fromhex(row["value"])

    def signing_key(self) -> bytes:
        """Return the same, made where there is none yet."""
        with self._events.transaction():
            found = self.find_signing_key()
            if found is None:
                found = secrets.token_bytes(_SIGNING_BYTES)
                self._session.write(_SET_SIGNING_KEY, value=found.hex())
        return found

    def find_secret(self, secret: SecretName) -> str | None:
        """Return the value, encrypted as it was put in; None where there is none (any more)."""
        row = self._environments.find_row(secret.environment)
        found = row and self._session.row(_VALUE, id=row["id"], name=secret.name, digest=secret.digest)
        return found["value"] if found else None

    def put_secrets(self, values: Mapping[SecretName, str]) -> None:
        """Put encrypted values in. One that is there already stays."""
        with self._events.transaction():
            for secret, value in values.items():
                key = {
                    "id": self._environments.row_id(secret.environment),
                    "name": secret.name,
                    "digest": secret.digest,
                }
                found = self._session.row(_VALUE, **key)
                if found is None or found["value"] is None:
                    self._session.write(_ADD if found is None else _SET, **key, value=value)

    def remove_secrets(self, needed: Collection[SecretName], *, dry_run: bool = False) -> Iterable[Digest]:
        """Take out every value that is not ``needed``, and those of removed environments; return their digests."""
        gone = set[Digest]()
        with self._events.transaction():
            for row in self._session.rows(_ALL):
                environment = environment_value(row)
                secret = SecretName(environment, row["name"], Digest(row["digest"]))
                if row["removed_at"] is None and secret in needed:
                    continue
                gone.add(secret.digest)
                if not dry_run:
                    self._session.write(_SET, id=row["id"], name=secret.name, digest=secret.digest, value=None)
        return gone
