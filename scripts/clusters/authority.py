"""One cluster's keys, certificates and kubeconfigs: made whole once, and removed with the cluster."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from clusters.layout import MOST_NODES, Layout

_LIFE = timedelta(days=365)
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
GATEWAY_NAMES = ("*.cluster.test",)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A key and its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def write(self, folder: Path, name: str) -> None:
        (folder / f"{name}.key").write_bytes(self.key_pem())
        (folder / f"{name}.crt").write_bytes(self.certificate_pem())


def make_keys(layout: Layout) -> None:
    """Make what the cluster's parts know one another by, unless it is there: all of it or nothing."""
    if layout.keys.exists():
        return
    draft = layout.state / ".keys"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    _write_keys(layout, draft)
    draft.rename(layout.keys)


def _write_keys(layout: Layout, folder: Path) -> None:
    main, front, store = (_authority(name) for name in ("cluster", "front-proxy", "etcd"))
    for name, pair in (("ca", main), ("front-proxy-ca", front), ("etcd-ca", store)):
        pair.write(folder, name)
    _service_accounts(folder)
    server_names = _names("localhost", "kubernetes", *(f"kubernetes.default{end}" for end in _DOMAINS))
    addresses = _names(layout.control.address, "127.0.0.1", layout.api_service)
    _issue(main, "kube-apiserver", [SERVER], names=server_names + addresses).write(folder, "apiserver")
    _issue(main, "apiserver", [CLIENT], group="system:masters").write(folder, "apiserver-kubelet")
    _issue(front, "front-proxy-client", [CLIENT]).write(folder, "front-proxy-client")
    _issue(store, "etcd", [SERVER, CLIENT], names=_names("127.0.0.1")).write(folder, "etcd")
    _issue(store, "apiserver", [CLIENT]).write(folder, "apiserver-etcd")
    _issue(main, "gateway", [SERVER], names=_names(*GATEWAY_NAMES)).write(folder, "gateway")

    def client(file: str, user: str, group: str | None = None) -> None:
        pair = _issue(main, user, [CLIENT], group=group)
        (folder / f"{file}.kubeconfig").write_text(_kubeconfig(layout, main, user, pair))
        if file == "admin":
            pair.write(folder, file)

    client("admin", "admin", "system:masters")
    for part in ("kube-controller-manager", "kube-scheduler", "kube-proxy"):
        client(part, f"system:{part}")
    for number in range(MOST_NODES):
        node = layout.node(number)
        client(f"kubelet-{number}", f"system:node:{node.name}", "system:nodes")
        names = _names(node.name, node.address)
        _issue(main, f"system:node:{node.name}", [SERVER], group="system:nodes", names=names).write(
            folder, f"kubelet-{number}"
        )


_DOMAINS = ("", ".svc", ".svc.cluster.local")


def _service_accounts(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / "service-accounts.key").write_bytes(private)
    (folder / "service-accounts.pub").write_bytes(public)


def _names(*names: str) -> list[x509.GeneralName]:
    return [x509.IPAddress(ip_address(name)) if _is_address(name) else x509.DNSName(name) for name in names]


def _is_address(name: str) -> bool:
    return name.replace(".", "").isdigit()


def _authority(name: str) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(subject, subject, key).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    usage = _usage(signs_certificates=True)
    return Pair(key=key, certificate=builder.add_extension(usage, critical=True).sign(key, hashes.SHA256()))


def _issue(
    authority: Pair,
    name: str,
    usages: Sequence[ObjectIdentifier],
    *,
    group: str | None = None,
    names: Sequence[x509.GeneralName] = (),
) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if group is not None:
        subject.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    builder = _builder(x509.Name(subject), authority.certificate.subject, key)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Pair(key=key, certificate=builder.sign(authority.key, hashes.SHA256()))


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _kubeconfig(layout: Layout, authority: Pair, user: str, pair: Pair) -> str:
    """Return a kubeconfig in JSON, which is YAML too."""
    server = f"https://{layout.control.address}:6443"
    cluster = {"server": server, "certificate-authority-data": _base64(authority.certificate_pem())}
    identity = {
        "client-certificate-data": _base64(pair.certificate_pem()),
        "client-key-data": _base64(pair.key_pem()),
    }
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": layout.name, "cluster": cluster}],
            "users": [{"name": user, "user": identity}],
            "contexts": [{"name": layout.name, "context": {"cluster": layout.name, "user": user}}],
            "current-context": layout.name,
        },
        indent=1,
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
