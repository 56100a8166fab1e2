"""A real edge before real routers, and clients that ask by name. All of it on loopback addresses, of IPv4 or IPv6."""

from __future__ import annotations

import http.client
import socket
import ssl
import subprocess
from collections.abc import Mapping
from pathlib import Path

import router_world

from free_ports import free_port
from instar.model.host_names import HostNames
from instar.model.machine import EdgeSettings
from instar.model.release import EnvironmentId
from instar.providers.edge import EdgeCertificate
from instar.providers.local.edge import LocalEdge
from instar.providers.machine import MachineProvider
from instar.providers.router_plan import RouterPlan
from instar.router.address import Address

SHOP = EnvironmentId(service="shop", name="production")
BLOG = EnvironmentId(service="blog", name="production")


class Answer:
    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class EdgeWorld(router_world.World):
    """An edge, and environments whose only server says its name."""

    def __init__(self, home: Path, host: str = "127.0.0.1") -> None:
        super().__init__(home)
        self.host, self.http, self.https = host, free_port(), free_port()
        listen = EdgeSettings(http=(str(Address(host, self.http)),), https=(str(Address(host, self.https)),))
        self.edge = LocalEdge(self.state, self.id, listen)
        self.provider = MachineProvider(runtime=None, router=self.router, edge=self.edge)  # type: ignore[arg-type]

    def named(self, environment: EnvironmentId, names: HostNames, **changes: object) -> RouterPlan:
        return self.plan(**{"environment": environment, "listen": (), "names": names, **changes})

    def expose(self, environment: EnvironmentId, names: HostNames, **changes: object) -> None:
        self.provider._ensure(self.named(environment, names, **changes))

    def open(self, environment: EnvironmentId, names: HostNames, **changes: object) -> router_world.Backend:
        """Have an environment with one server, which has the traffic, that is reached by ``names``."""
        backend = self.backend(environment.service)
        self.expose(environment, names, **changes)
        self.router.attach(environment, [backend.target])
        self.router.route(environment, {backend.name: 100})
        return backend

    def get(self, host: str, path: str = "/", *, headers: Mapping[str, str] = {}) -> Answer:
        connection = http.client.HTTPConnection(self.host, self.http, timeout=10)
        connection.request("GET", path, headers={"Host": host, **headers})
        return _answer(connection)

    def get_secure(
        self, name: str, path: str = "/", *, host: str | None = None, client: Path | None = None
    ) -> tuple[Answer, bytes]:
        """Ask by https, whoever signed the certificate; return it too."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if client:
            context.load_cert_chain(client)
        connection = http.client.HTTPConnection(self.host, self.https, timeout=10)
        plain = socket.create_connection((self.host, self.https), timeout=10)
        connection.sock = context.wrap_socket(plain, server_hostname=name)
        shown = connection.sock.getpeercert(binary_form=True)
        connection.request("GET", path, headers={"Host": host or name})
        return _answer(connection), shown or b""

    def raw(self, request: str) -> bytes:
        """Return what is answered to ``request`` until the connection ends."""
        with socket.create_connection((self.host, self.http), timeout=5) as one:
            one.sendall(request.encode())
            parts = []
            while part := one.recv(65_536):
                parts.append(part)
        return b"".join(parts)

    def end(self) -> None:
        for environment in (SHOP, BLOG, router_world.ENV):
            self.provider.close(environment)
        for backend in self.backends:
            backend.close()


def certificate(folder: Path, *names: str) -> EdgeCertificate:
    """Return a certificate for ``names`` that signs itself."""
    key, made = folder / f"{names[0]}.key", folder / f"{names[0]}.crt"
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9"]
    alternatives = ",".join(f"DNS:{name}" for name in names)
    argv += ["-subj", f"/CN={names[0]}", "-addext", f"subjectAltName={alternatives}", "-keyout", str(key)]
    subprocess.run([*argv, "-out", str(made)], check=True, capture_output=True, timeout=30)
    return EdgeCertificate(names=names, chain=made.read_text(), key=key.read_text())


def _answer(connection: http.client.HTTPConnection) -> Answer:
    found = connection.getresponse()
    answer = Answer(found.status, {name.lower(): value for name, value in found.getheaders()}, found.read())
    connection.close()
    return answer
