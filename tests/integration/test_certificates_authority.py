"""An authority that is down, slow, refuses, or answers what nobody asked for."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from acme_world import World, wanted
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from instar.certificates import pem
from instar.certificates.acme_directory import AcmeDirectory
from instar.certificates.renewals import Renewal
from instar.certificates.store import CertificateStore
from instar.errors import AuthorityUnavailable
from instar.model.machine import AcmeSettings
from pebble import Pebble
from simulated.door import SimulatedDoor
from tampering_authority import Answer, Tamper, TamperingAuthority


@pytest.fixture(scope="module")
def authority(pebble: Pebble) -> Iterator[TamperingAuthority]:
    authority = TamperingAuthority(pebble)
    yield authority
    authority.close()


def failed_at(
    authority: TamperingAuthority, tmp_path: Path, door: SimulatedDoor, name: str, tamper: Tamper
) -> tuple[Renewal, World]:
    """Try to renew a certificate of ``name``, which is held, at an authority that misbehaves."""
    world, key = World(tmp_path, authority.pebble, door, directory=authority.directory), pem.new_key()
    held = pem.read_pair(signed_by_nobody([name], key), key, [name], datetime.now(UTC))
    assert world.renewals.put(wanted(name), held, door).outcome == "renewed"
    shown = dict(door.served())
    authority.tamper = tamper
    found = world.again().renew(wanted(name), door, force=True)
    assert found.outcome == "failed" and found.error is not None
    assert door.served() == shown and found.held is not None and found.record.failures == 1
    return found, world


def test_too_many_is_respected(authority: TamperingAuthority, tmp_path: Path, door: SimulatedDoor) -> None:
    def tamper(path: str, answer: Answer) -> None:
        if path == "/order-plz":
            body = {"type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many certificates (50)"}
            answer.status, answer.body = 429, json.dumps(body).encode()
            answer.headers |= {"Retry-After": "7200", "Content-Type": "application/problem+json"}

    found, world = failed_at(authority, tmp_path, door, "many.test", tamper)
    assert isinstance(found.error, AuthorityUnavailable) and "too many certificates (50)" in found.error.message
    assert "not before 7200 s have passed" in found.error.message
    assert found.record.retry_at is not None
    assert timedelta(seconds=7100) < found.record.retry_at - datetime.now(UTC) < timedelta(seconds=7300)
    asked = len(authority.asked)
    world.ahead = found.held.life * 0.7 - timedelta(0) if found.held else timedelta(0)
    authority.asked.clear()
    world.ahead = timedelta(seconds=60)
    assert world.again().renew(wanted("many.test"), door).outcome == "kept" and asked and not authority.asked


@pytest.mark.parametrize(
    ("tamper_with", "status", "body", "told"),
    [
        ("/dir", 503, b"<html>maintenance</html>", "is not available: it answered 503"),
        ("/dir", 200, b"<html>a page</html>", "Unexpected response Content-Type"),
        ("/dir", 200, b"{}", "does not answer as ACME has it"),
        ("/dir", 200, b"[]", "does not answer as ACME has it"),
        ("/nonce-plz", 404, b"", "it answered 404"),
        ("/order-plz", 200, b"{" * 3_000_000, "its answer is larger than 1,048,576 bytes"),
        ("/order-plz", 500, b'{"type": "urn:ietf:params:acme:error:serverInternal", "detail": "oh\\u001b[2J"}', "oh"),
        ("/my-order", 200, b"\xff\xfe", "does not answer as ACME has it"),
        ("/my-order", 200, b'{"status": "invalid", "error": {"detail": "no more"}}', "the authority says: no more"),
        ("/certZ/", 200, b"no certificate", "that the authority gave: there is no certificate in PEM in it"),
        ("/certZ/", 200, b"x" * 500_000, "it is larger than 262,144 bytes"),
    ],
)
def test_an_authority_that_answers_wrong_is_refused(
    authority: TamperingAuthority,
    tmp_path: Path,
    door: SimulatedDoor,
    tamper_with: str,
    status: int,
    body: bytes,
    told: str,
) -> None:
    def tamper(path: str, answer: Answer) -> None:
        if path.startswith(tamper_with):
            answer.status, answer.body = status, body

    found, _ = failed_at(authority, tmp_path, door, "wrong.test", tamper)
    assert found.error is not None and told in found.error.message
    assert found.error.message.isprintable() and len(found.error.message) < 700


@pytest.mark.parametrize(
    ("names", "own_key", "told"),
    [
        (["other.test"], True, "it does not cover 'certified.test', but 'other.test'"),
        (["certified.test"], False, "the key does not fit the certificate"),
    ],
)
def test_a_certificate_for_other_names_or_another_key_is_refused(
    authority: TamperingAuthority, tmp_path: Path, door: SimulatedDoor, names: list[str], own_key: bool, told: str
) -> None:
    folder = CertificateStore(tmp_path / "certificates").folder(wanted("certified.test"))

    def tamper(path: str, answer: Answer) -> None:
        if path.startswith("/certZ/") and answer.status == 200:  # now and then a nonce is refused
            key = (folder.order_key() or b"") if own_key else pem.new_key()
            answer.body = signed_by_nobody(names, key)

    found, world = failed_at(authority, tmp_path, door, "certified.test", tamper)
    assert found.error is not None and told in found.error.message
    authority.tamper = lambda path, answer: None
    assert world.again().renew(wanted("certified.test"), door, force=True).outcome == "renewed"


def signed_by_nobody(names: list[str], key: bytes) -> bytes:
    private, now, nobody = pem.read_key(key), datetime.now(UTC), x509.Name([])
    built = x509.CertificateBuilder().subject_name(nobody).issuer_name(nobody).public_key(private.public_key())
    built = built.serial_number(1).not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(90))
    built = built.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
    return built.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_an_authority_that_is_slow_or_refuses_every_nonce_is_given_up(
    authority: TamperingAuthority, tmp_path: Path, door: SimulatedDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("instar.certificates.acme_directory._TIMEOUT_S", 0.5)

    def slow(path: str, answer: Answer) -> None:
        answer.delay_s = 1.0 if path == "/order-plz" else 0.0

    found, world = failed_at(authority, tmp_path, door, "slow.test", slow)
    assert isinstance(found.error, AuthorityUnavailable) and "no answer within 0.5 s" in found.error.message

    def refusing(path: str, answer: Answer) -> None:
        if path == "/order-plz":
            body = {"type": "urn:ietf:params:acme:error:badNonce", "detail": "that nonce is none"}
            answer.status, answer.body = 400, json.dumps(body).encode()

    authority.tamper = refusing
    authority.asked.clear()
    found = world.again().renew(wanted("slow.test"), door, force=True)
    assert isinstance(found.error, AuthorityUnavailable) and "that nonce is none" in found.error.message
    assert authority.asked.count("/order-plz") == 5


def test_an_authority_that_is_not_trusted_is_not_asked(pebble: Pebble, tmp_path: Path, door: SimulatedDoor) -> None:
    found = World(tmp_path, pebble, door, ca=None).renewals.renew(wanted("trust.test"), door)
    assert found.error is not None and "its certificate is not trusted here: " in found.error.message
    (tmp_path / "empty.pem").write_text("")
    found = World(tmp_path, pebble, door, ca=str(tmp_path / "empty.pem")).renewals.renew(
        wanted("trust.test"), door, force=True
    )
    assert found.outcome == "failed"
    found = World(tmp_path, pebble, door, ca="/nowhere.pem").renewals.renew(wanted("trust.test"), door, force=True)
    assert found.error is not None and "/nowhere.pem" in found.error.message


@pytest.mark.parametrize("place", ["Location", "authorizations", "finalize", "certificate"])
def test_an_address_without_tls_is_not_asked(
    authority: TamperingAuthority, tmp_path: Path, door: SimulatedDoor, place: str
) -> None:
    def tamper(path: str, answer: Answer) -> None:
        if answer.status >= 400:
            return
        if place == "Location" and path == "/dir":
            answer.status, answer.headers["Location"], answer.body = 302, "http://127.0.0.1:9/dir", b""
        elif path.startswith(("/order-plz", "/my-order")):
            body = json.loads(answer.body)
            if place in body:
                there = "http://127.0.0.1:9/x"
                body[place] = [there] if place == "authorizations" else there
            answer.body = json.dumps(body).encode()

    found, _ = failed_at(authority, tmp_path, door, f"{place.lower()}.test", tamper)
    assert found.error is not None
    assert "an address that is not of https: http://127.0.0.1:9/" in found.error.message


def test_an_answer_nested_without_end_is_no_answer(
    authority: TamperingAuthority, tmp_path: Path, door: SimulatedDoor
) -> None:
    def tamper(path: str, answer: Answer) -> None:
        if path.startswith("/my-order"):
            answer.body = b"[" * 200_000

    found, _ = failed_at(authority, tmp_path, door, "nested.test", tamper)
    assert found.error is not None and "does not answer as ACME has it" in found.error.message


def test_an_answer_that_comes_a_byte_at_a_time_is_given_up(
    tmp_path: Path, door: SimulatedDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte comes in time, and the head never ends."""
    monkeypatch.setattr("instar.certificates.acme_directory._ANSWER_S", 1.0)
    key = pem.new_key()
    made, trusted = tmp_path / "own.pem", tmp_path / "trusted.pem"
    made.write_bytes(signed_by_nobody(["localhost"], key) + key)
    trusted.write_bytes(signed_by_nobody(["localhost"], key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made)
    ended = threading.Event()

    def trickle(listening: socket.socket) -> None:
        with contextlib.suppress(OSError), context.wrap_socket(listening.accept()[0], server_side=True) as one:
            one.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while not ended.wait(0.05):
                one.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=trickle, args=(listening,), daemon=True)
        server.start()
        settings = AcmeSettings(directory=f"https://localhost:{listening.getsockname()[1]}/dir", ca=str(trusted))
        with pytest.raises(AuthorityUnavailable, match="is not available"):
            AcmeDirectory(settings, CertificateStore(tmp_path / "certificates")).url("newOrder", what="ask")
        ended.set()
        server.join(10)
