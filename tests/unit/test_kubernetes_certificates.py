"""Certificates of an API server, and those that it wants to see: what is the matter with one is told apart."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import socket
import ssl
import stat
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from instar.errors import ProviderError
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.kinds import NAMESPACE
from instar.providers.kubernetes.kubeconfig import find_config

HERE = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


class Authority:
    """Signs certificates of servers and clients."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = named(name)
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        built = self._begun(self._name, self._key, timedelta(days=9)).add_extension(constraints, critical=True)
        self.pem = pem_of(built.sign(self._key, hashes.SHA256()))

    def issue(self, name: str, *names: x509.GeneralName, days: float = 9) -> tuple[str, str]:
        """Return a certificate, which is over in so many days, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        built = self._begun(named(name), key, timedelta(days=days))
        if names:
            built = built.add_extension(x509.SubjectAlternativeName(names), critical=False)
        kinds = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        own = key.private_bytes(serialization.Encoding.PEM, *kinds).decode()
        return pem_of(built.sign(self._key, hashes.SHA256())), own

    def _begun(self, who: x509.Name, key: ec.EllipticCurvePrivateKey, holds: timedelta) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        built = x509.CertificateBuilder().subject_name(who).issuer_name(self._name).public_key(key.public_key())
        built = built.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=20))
        return built.not_valid_after(now + holds)


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def pem_of(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


class Namespaces(BaseHTTPRequestHandler):
    """Has every namespace, and says who asks by the name in their certificate."""

    def do_GET(self) -> None:
        connection: Any = self.connection
        subject = (connection.getpeercert() or {}).get("subject", ())
        self.server.seen.append(str(dict(one for (one,) in subject).get("commonName")))  # type: ignore[attr-defined]
        body = json.dumps({"metadata": {"name": "shop"}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


class Server(ThreadingHTTPServer):
    """``shown`` is its certificate; ``wants``: whose clients' certificates it takes, and wants."""

    def __init__(self, folder: Path, shown: tuple[str, str], wants: Authority | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Namespaces)
        self.seen: list[str] = []
        (folder / "server.pem").write_text("".join(shown))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem")
        if wants is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=wants.pem)
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def shutdown_request(self, request: Any) -> None:
        """Read to the end before it is closed: else what a client has sent already would take the alert with it."""
        with contextlib.suppress(OSError), socket.socket(fileno=request.detach()) as plain:
            plain.settimeout(5)
            plain.shutdown(socket.SHUT_WR)
            while plain.recv(4096):
                pass

    def handle_error(self, *_: object) -> None:
        """Who was refused has gone away."""


@contextlib.contextmanager
def serving(server: Server) -> Iterator[Server]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def api_of(folder: Path, server: Server, trusts: Authority, user: Mapping[str, Any], **cluster: str) -> Api:
    (folder / "ca.pem").write_text(trusts.pem)
    where = {"server": f"https://127.0.0.1:{server.server_address[1]}", "certificate-authority": "ca.pem", **cluster}
    found = {
        "clusters": [{"name": "c", "cluster": where}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    (folder / "kubeconfig").write_text(json.dumps(found))
    environ = {"KUBECONFIG": str(folder / "kubeconfig")}
    return Api(find_config("c", environ), environ)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("the cluster's")


@pytest.mark.parametrize(
    ("names", "days", "of_another", "told", "hint"),
    [
        ((x509.DNSName("api.example"),), 9, False, "is for another name: IP address mismatch", "tls-server-name"),
        ((HERE,), -1, False, "has expired: certificate has expired", "renew it"),
        ((HERE,), 9, True, "is not of the authority that the kubeconfig names", "get the kubeconfig anew"),
    ],
    ids=["another name", "expired", "another authority"],
)
def test_what_is_the_matter_with_a_servers_certificate_is_told_apart(
    authority: Authority,
    tmp_path: Path,
    names: tuple[x509.GeneralName, ...],
    days: float,
    of_another: bool,
    told: str,
    hint: str,
) -> None:
    with serving(Server(tmp_path, authority.issue("api", *names, days=days))) as server:
        trusted = Authority("another") if of_another else authority
        with pytest.raises(ProviderError, match=told) as caught:
            api_of(tmp_path, server, trusted, {"token": "good"}).find(NAMESPACE, None, "shop")
    assert caught.value.retry_after_s is None, "asked again it is the same"
    assert hint in (caught.value.hint or "")
    assert server.seen == []


def test_tls_server_name_says_which_name_a_certificate_is_for(authority: Authority, tmp_path: Path) -> None:
    with serving(Server(tmp_path, authority.issue("api", x509.DNSName("api.example")))) as server:
        api = api_of(tmp_path, server, authority, {"token": "good"}, **{"tls-server-name": "api.example"})
        assert api.find(NAMESPACE, None, "shop") is not None
        api = api_of(tmp_path, server, authority, {"token": "good"}, **{"tls-server-name": "other.example"})
        with pytest.raises(ProviderError, match="is for another name: Hostname mismatch"):
            api.find(NAMESPACE, None, "shop")


def saying(folder: Path, certificate: str, key: str) -> Mapping[str, Any]:
    """Return a kubeconfig's user whose credentials a program says: a client's certificate."""
    status = {"clientCertificateData": certificate, "clientKeyData": key}
    version = "client.authentication.k8s.io/v1"
    (folder / "said").write_text(json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status}))
    command = folder / "plugin"
    command.write_text(f"#!/bin/sh\ncat {folder}/said\n")
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return {"exec": {"apiVersion": version, "command": str(command), "interactiveMode": "Never"}}


def test_a_certificate_that_a_program_says_is_shown_to_a_server_that_wants_one(
    authority: Authority, tmp_path: Path
) -> None:
    with serving(Server(tmp_path, authority.issue("api", HERE), authority)) as server:
        api = api_of(tmp_path, server, authority, saying(tmp_path, *authority.issue("ann")))
        for _ in range(2):
            assert api.find(NAMESPACE, None, "shop") is not None
    assert server.seen == ["ann", "ann"]


@pytest.mark.parametrize(
    ("whose", "days", "told"),
    [
        (None, 9, "wants a client's certificate, and these credentials have none"),
        ("another", 9, "does not accept the client's certificate: it knows not its authority"),
        ("the cluster's", -1, "does not accept the client's certificate: it has expired"),
    ],
)
def test_a_server_that_does_not_take_the_clients_certificate_is_no_server_that_is_away(
    authority: Authority, tmp_path: Path, whose: str | None, days: float, told: str
) -> None:
    signer = authority if whose == "the cluster's" else Authority("another")
    user = {"token": "good"} if whose is None else saying(tmp_path, *signer.issue("ann", days=days))
    with (
        serving(Server(tmp_path, authority.issue("api", HERE), authority)) as server,
        pytest.raises(ProviderError, match=told) as caught,
    ):
        api_of(tmp_path, server, authority, user).find(NAMESPACE, None, "shop")
    assert caught.value.retry_after_s is None
    assert "client-certificate-data" in (caught.value.hint or "")
    assert server.seen == []
