"""Certificates and keys as they come from files and authorities: what is wrong with one is said."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from instar.cancellation import Cancellation
from instar.certificates import pem
from instar.certificates.fingerprint import fingerprint_of
from instar.certificates.own_authority import LIFE, OwnAuthority
from instar.certificates.pem import Unfit, read_pair
from instar.certificates.record import CertificateRecord, Order
from instar.certificates.renewals import Renewals
from instar.certificates.store import CertificateStore
from instar.errors import HostError
from instar.model.certificate import WantedCertificate
from instar.model.machine import AcmeSettings
from instar.model.release import EnvironmentId

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def authority(tmp_path: Path) -> OwnAuthority:
    return OwnAuthority(tmp_path / "authority", "machine")


def made(
    names: Sequence[str], *, life: timedelta = 30 * 24 * HOUR, begin: timedelta = -HOUR, key: bytes = b""
) -> tuple[bytes, bytes]:
    """Return a certificate that nobody else signed, and its key."""
    private = pem.read_key(key or pem.new_key())
    nobody = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Nobody\x1b[2J")])
    built = x509.CertificateBuilder().subject_name(nobody).issuer_name(nobody).public_key(private.public_key())
    built = built.serial_number(7).not_valid_before(NOW + begin).not_valid_after(NOW + life)
    if names:
        listed = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        built = built.add_extension(listed, critical=False)
    return built.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), pem.key_text(private)


def test_a_chain_is_put_in_order_and_what_leads_nowhere_is_left_out(authority: OwnAuthority) -> None:
    pair, root = authority.issue(["shop.example"], NOW), authority.root(NOW)
    stranger = made(["other.example"])[0]
    found = read_pair(pair.chain + stranger + root, pair.key, ["shop.example"], NOW)
    assert found.chain == pair.chain + root and found.certificate == pair.certificate
    assert fingerprint_of(found.chain) == pair.certificate.fingerprint


@pytest.mark.parametrize("kind", ["rsa", "p384", "sec1"])
def test_usual_keys_are_taken(kind: str) -> None:
    form = serialization.PrivateFormat.PKCS8
    key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP384R1())
    if kind == "sec1":
        form = serialization.PrivateFormat.TraditionalOpenSSL
    text = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    chain, _ = made(["shop.example"], key=text)
    assert b"BEGIN PRIVATE KEY" in read_pair(chain, text, ["shop.example"], NOW).key


def encrypted(password: bytes) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    how = serialization.BestAvailableEncryption(password)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


def of_ed25519() -> bytes:
    form = serialization.PrivateFormat.PKCS8
    key = ed25519.Ed25519PrivateKey.generate()
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def bare(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.parametrize(
    ("key", "told"),
    [
        (bare(rsa.generate_private_key(65537, 1024)), "it has 1024 bits of RSA, and must have 2048 to 4096"),
        (bare(ec.generate_private_key(ec.SECP521R1())), "its curve is secp521r1; all clients take P-256 and P-384"),
        (bare(ec.generate_private_key(ec.SECP256K1())), "its curve is secp256k1"),
    ],
)
def test_a_key_that_is_weak_or_that_few_take_is_refused(key: bytes, told: str) -> None:
    with pytest.raises(pem.UnfitKey, match=told):
        pem.read_key(key)


def test_what_is_too_large_to_be_shown_is_refused() -> None:
    names = [f"{number:04}.{'long-' * 8}name.example" for number in range(600)]
    chain, key = made(names)
    with pytest.raises(Unfit, match="with its key it is larger than 32,768 bytes"):
        read_pair(chain, key, names[:1], NOW)
    chain, key = made(names[:300])
    assert len(read_pair(chain, key, names[:1], NOW).chain) > 20_000


CHAIN, KEY = made(["shop.example"])


@pytest.mark.parametrize(
    ("chain", "key", "told"),
    [
        (CHAIN, pem.new_key(), "the key does not fit the certificate"),
        (made(["other.example"])[0] + CHAIN, KEY, "its own certificate has to come first"),
        (*made(["other.example"]), "it does not cover 'shop.example', but 'other.example'"),
        (*made([]), "it does not cover 'shop.example', but no name"),
        (*made(["shop.example"], life=-timedelta(minutes=1)), "it expired on "),
        (*made(["shop.example"], begin=HOUR), "it is not valid before "),
        (CHAIN, b"", "there is no private key in PEM in it"),
        (CHAIN, CHAIN, "there is no private key in PEM in it"),
        (CHAIN, encrypted(b"secret"), "the key has a password"),
        (CHAIN, of_ed25519(), "neither of ECDSA nor of RSA"),
        (b"", KEY, "there is no certificate in PEM in it"),
        (KEY, KEY, "there is no certificate in PEM in it"),
        (b"\xff" * 100, KEY, "there is no certificate in PEM in it"),
        (CHAIN.replace(b"MI", b"XX", 1), KEY, "a certificate in it is damaged"),
        (CHAIN * 11, KEY, "it holds 11 certificates"),
        (b"x" * 300_000, KEY, "it is larger than 262,144 bytes"),
    ],
)
def test_what_does_not_fit_is_told(chain: bytes, key: bytes, told: str) -> None:
    with pytest.raises(Unfit) as error:
        read_pair(chain, key, ["shop.example"], NOW)
    assert told in str(error.value) and str(error.value).isprintable()


def test_what_an_issuer_is_called_can_be_shown() -> None:
    assert pem.facts(pem.read_chain(CHAIN)[0]).issuer == "Nobody?[2J"


def test_openssl_trusts_what_the_own_authority_signs(authority: OwnAuthority, tmp_path: Path) -> None:
    pair = authority.issue(["shop.internal", "*.shop.internal"], NOW)
    assert pair.certificate.names == ("shop.internal", "*.shop.internal")
    assert pair.certificate.issuer == "Instar machine"
    assert abs(pair.certificate.not_after - NOW - LIFE) < timedelta(seconds=2)
    (tmp_path / "root.pem").write_bytes(authority.root(NOW))
    (tmp_path / "leaf.pem").write_bytes(pair.chain)
    for name, fits in (("shop.internal", True), ("a.shop.internal", True), ("other.internal", False)):
        words = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", str(tmp_path / "root.pem")]
        done = subprocess.run(
            [*words, "-verify_hostname", name, str(tmp_path / "leaf.pem")], check=False, capture_output=True
        )
        assert (done.returncode == 0) is fits, done.stderr


def test_the_root_is_made_once_and_stays(authority: OwnAuthority, tmp_path: Path) -> None:
    root = authority.root(NOW)
    assert b"PRIVATE" not in root and OwnAuthority(tmp_path / "authority", "renamed").root(NOW) == root
    path = tmp_path / "authority" / "root.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert authority.root(NOW + timedelta(days=3640)) != root  # what it signs would not live out its days
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(HostError) as error:
        authority.root(NOW)
    assert "put it back from a copy" in (error.value.hint or "")


def wanted(*names: str) -> WantedCertificate:
    return WantedCertificate(environment=EnvironmentId(service="shop", name="dev"), source="internal", names=names)


def test_internal_certificates_are_renewed_alike_and_never_without_need(tmp_path: Path) -> None:
    ahead = timedelta(0)
    store = CertificateStore(tmp_path / "certificates")
    renewals = Renewals(
        store, AcmeSettings(), machine="m", cancellation=Cancellation(), now=lambda: datetime.now(UTC) + ahead
    )
    first = renewals.renew(wanted("shop.internal"), None)
    assert first.outcome == "renewed" and renewals.renew(wanted("shop.internal"), None).outcome == "kept"
    ahead = timedelta(days=21)
    second = renewals.renew(wanted("shop.internal"), None)
    assert second.outcome == "renewed" and second.record != first.record
    (store.authority / "root.pem").unlink()
    assert renewals.renew(wanted("shop.internal"), None).outcome == "renewed"
    assert renewals.renew(wanted("shop.internal"), None).outcome == "kept"


@pytest.mark.parametrize("data", [b"", b"\x00", b"[]", b'{"names": 3, "failures": "a"}', b"{" * 100_000])
def test_damaged_notes_are_none(tmp_path: Path, data: bytes) -> None:
    folder = CertificateStore(tmp_path).folder(wanted("shop.internal"))
    folder.begin_order(Order(authority="a", names=("shop.internal",)), b"key")
    folder.note(CertificateRecord(failures=3))
    for name in ("order.json", "record.json"):
        (folder.path / name).write_bytes(data)
    assert folder.order() is None and folder.record() == CertificateRecord()


def test_a_folder_in_the_place_of_a_file_is_told(tmp_path: Path) -> None:
    folder = CertificateStore(tmp_path).folder(wanted("shop.internal"))
    (folder.path / "certificate.pem").mkdir(parents=True)
    with pytest.raises(HostError, match="cannot read"):
        folder.record()


def test_names_of_folders_lead_nowhere_else(tmp_path: Path) -> None:
    store = CertificateStore(tmp_path)
    assert store.folder(wanted("*.shop.internal")).path == tmp_path / "internal" / "_.shop.internal"
