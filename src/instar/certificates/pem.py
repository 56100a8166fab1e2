"""Certificates and keys in PEM: made, read and checked. What comes from outside is data until it has been checked here.

(Importing cryptography takes 60 ms: whoever only lists certificates has no need of this module.)
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from instar.frozen import dataclass
from instar.model.certificate import Certificate
from instar.model.printable import printable

LIMIT_BYTES: Final = 256 * 1024
LARGEST_PAIR_BYTES: Final = 32 * 1024  # what the edge can show
_LONGEST_CHAIN: Final = 10
_RSA_BITS: Final = range(2048, 4096 + 1)  # of less nobody thinks much, and of more each handshake costs all names time
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1)
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)
_KEYS = (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)


class Unfit(ValueError):
    """A certificate or a key is not what it has to be. Its text is the cause, for people."""


class UnfitKey(Unfit):
    """The same of a key alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A certificate with those that lead to its root, its own first, and its key: PEM of both, as a server wants it."""

    certificate: Certificate
    chain: bytes
    key: bytes


def new_key() -> bytes:
    """Return a new private key, ECDSA P-256."""
    return key_text(ec.generate_private_key(ec.SECP256R1()))


def key_text(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def read_key(data: bytes) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    """Return the private key in ``data``. Raises UnfitKey."""
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except TypeError as error:
        raise UnfitKey("the key has a password; write it without one: openssl pkey -in KEY -out KEY") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UnfitKey("there is no private key in PEM in it") from error
    if not isinstance(key, _KEYS):
        raise UnfitKey("it is neither of ECDSA nor of RSA, which all clients take")
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size not in _RSA_BITS:
        raise UnfitKey(f"it has {key.key_size} bits of RSA, and must have {_RSA_BITS.start} to {_RSA_BITS.stop - 1}")
    if isinstance(key, ec.EllipticCurvePrivateKey) and not isinstance(key.curve, _CURVES):
        raise UnfitKey(f"its curve is {key.curve.name}; all clients take P-256 and P-384")
    return key


def request(names: Sequence[str], key: bytes) -> bytes:
    """Return the request for a certificate of ``names`` for ``key``, in PEM."""
    listed = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    built = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(listed, critical=False)
    return built.sign(read_key(key), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def read_pair(chain: bytes, key: bytes, names: Sequence[str], now: datetime) -> Pair:
    """Return a certificate and its key when they fit each other and cover ``names`` at the time ``now``.

    What follows the certificate in ``chain`` is put in the order in which each signs the one before; what leads nowhere
    is left out. Raises Unfit.
    """
    certificates = read_chain(chain)
    leaf, private = _of_key(certificates, read_key(key)), read_key(key)
    found = facts(leaf)
    _require_in_time(found, now)
    missing = [name for name in names if not found.covers((name,))]
    if missing:
        raise Unfit(f"it does not cover {_listed(missing)}, but {_listed(found.names) or 'no name'}")
    ordered = [leaf, *_issuers(leaf, [one for one in certificates if one is not leaf])]
    text = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in ordered)
    if len(text) + len(key_text(private)) > LARGEST_PAIR_BYTES:
        raise Unfit(
            f"with its key it is larger than {LARGEST_PAIR_BYTES:,} bytes: it has too many names, or certificates"
        )
    return Pair(certificate=found, chain=text, key=key_text(private))


def read_chain(data: bytes) -> list[x509.Certificate]:
    """Return the certificates in ``data``. Raises Unfit."""
    if len(data) > LIMIT_BYTES:
        raise Unfit(f"it is larger than {LIMIT_BYTES:,} bytes")
    blocks = [found.group() for found in _BLOCK.finditer(data) if found[1] == b"CERTIFICATE"]
    if not blocks:
        raise Unfit("there is no certificate in PEM in it")
    if len(blocks) > _LONGEST_CHAIN:
        raise Unfit(f"it holds {len(blocks)} certificates, more than {_LONGEST_CHAIN}")
    try:
        return [x509.load_pem_x509_certificate(block) for block in blocks]
    except ValueError as error:
        raise Unfit("a certificate in it is damaged") from error


def facts(certificate: x509.Certificate) -> Certificate:
    """Return what stands in ``certificate``. Raises Unfit."""
    try:
        return Certificate(
            names=_names(certificate),
            issuer=_name(certificate.issuer),
            fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            renewal_id=_renewal_id(certificate),
        )
    except ValueError as error:
        raise Unfit("a certificate in it is damaged") from error


def _require_in_time(found: Certificate, now: datetime) -> None:
    if found.not_after <= now:
        raise Unfit(f"it expired on {found.not_after:%Y-%m-%d %H:%M} UTC")
    if found.not_before > now:
        raise Unfit(f"it is not valid before {found.not_before:%Y-%m-%d %H:%M} UTC")


def _of_key(
    certificates: Sequence[x509.Certificate], key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
) -> x509.Certificate:
    """Return the certificate that the key belongs to. Raises Unfit where it is not the first."""
    own = _public(key.public_key())
    for number, one in enumerate(certificates):
        try:
            fits = _public(one.public_key()) == own
        except (ValueError, UnsupportedAlgorithm):
            fits = False
        if fits:
            if number:
                raise Unfit("its own certificate has to come first, then those that signed it")
            return one
    raise UnfitKey("the key does not fit the certificate")


def _public(key: object) -> bytes:
    assert hasattr(key, "public_bytes")
    text: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return text


def _issuers(leaf: x509.Certificate, others: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """Return those of ``others`` that lead from ``leaf`` to its root, each the signer of the one before."""
    rest, found, last = list(others), [], leaf
    while last.issuer != last.subject:
        signer = next((one for one in rest if _signed(last, one)), None)
        if signer is None:
            break
        rest.remove(signer)
        found.append(signer)
        last = signer
    return found


def _signed(certificate: x509.Certificate, signer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(signer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        listed = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(name.lower() for name in listed.get_values_for_type(x509.DNSName))


def _name(name: x509.Name) -> str:
    """Return what people call an authority: its common name, else its organisation; printable and short."""
    for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        for found in name.get_attributes_for_oid(oid):
            text = printable(str(found.value))
            return text[:80]
    return "(without a name)"


def _renewal_id(certificate: x509.Certificate) -> str | None:
    """Source: RFC 9773, section 4.1."""
    try:
        authority = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        return None
    if authority is None:
        return None
    serial = certificate.serial_number
    number = serial.to_bytes(serial.bit_length() // 8 + 1, "big")
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (authority, number))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
