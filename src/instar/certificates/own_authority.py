"""A machine's own small authority (``tls: internal``): for development, and for machines without the internet.

Its root is made when it is first needed, and its key never leaves the state directory. Clients trust it once somebody
has given them its certificate (``instar certificates --ca``). It signs no other authority, and only for 30 days.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from instar import durable
from instar.certificates import pem
from instar.certificates.store import read_state, written_in
from instar.errors import HostError

ROOT_LIFE: Final = timedelta(days=3652)
LIFE: Final = timedelta(days=30)
_SKEW: Final = timedelta(hours=1)  # of the clocks of clients
_LONGEST_NAME: Final = 64


class OwnAuthority:
    """The root in ``folder``: made by the first that needs it, whoever that is. ``machine`` is in its name."""

    def __init__(self, folder: Path, machine: str) -> None:
        self._folder = folder
        self._machine = machine

    def root(self, now: datetime) -> bytes:
        """Return the certificate to trust, in PEM. Raises HostError."""
        return _text(self._root(now)[0])

    def issue(self, names: Sequence[str], now: datetime) -> pem.Pair:
        """Return a new certificate of ``names`` with a new key. Raises HostError."""
        root, signer = self._root(now)
        key = ec.generate_private_key(ec.SECP256R1())
        built = _builder(x509.Name([]), root.subject, key.public_key(), now, min(now + LIFE, root.not_valid_after_utc))
        listed = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        found = (
            built.add_extension(listed, critical=True)  # its subject is empty: RFC 5280, 4.2.1.6
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
            .sign(signer, hashes.SHA256())
        )
        return pem.Pair(certificate=pem.facts(found), chain=_text(found), key=pem.key_text(key))

    def _root(self, now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """Return the root and its key; a new one where there is none that lasts for another certificate."""
        path = self._folder / "root.pem"
        data = read_state(path)
        if data is None:
            with written_in(self._folder):
                durable.write_once(path, self._make(now))
            data = read_state(path) or b""
        root, key = _read(path, data)
        if root.not_valid_after_utc - now >= LIFE:
            return root, key
        with written_in(self._folder):
            durable.write(path, self._make(now))
        return _read(path, read_state(path) or b"")

    def _make(self, now: datetime) -> bytes:
        key = ec.generate_private_key(ec.SECP256R1())
        name = f"Instar {self._machine}"[:_LONGEST_NAME]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        root = (
            _builder(subject, subject, key.public_key(), now, now + ROOT_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return _text(root) + pem.key_text(key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, until: datetime
) -> x509.CertificateBuilder:
    built = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    built = built.serial_number(x509.random_serial_number())
    return built.not_valid_before(now - _SKEW).not_valid_after(until)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _read(path: Path, data: bytes) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        root, key = pem.read_chain(data)[0], pem.read_key(data)
    except pem.Unfit as error:
        raise _unusable(path, str(error)) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or root.public_key() != key.public_key():
        raise _unusable(path, "its key does not fit its certificate")
    return root, key


def _unusable(path: Path, cause: str) -> HostError:
    return HostError(
        f"cannot use '{path}': {cause}",
        hint="put it back from a copy; or, to begin anew, remove it: clients have to trust the new one then",
    )


def _text(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
