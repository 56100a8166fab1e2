"""A Gateway that sends on whoever asks it by http: environments of https are told of one that does not, and released
behind one that does."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusters.configuration import GATEWAY as PUBLIC
from clusters.layout import layout
from clusters.parts import GATEWAY_HTTP, GATEWAY_HTTPS

from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.kinds import GATEWAY, ROUTE
from instar.waiting import Deadline, until
from kubernetes_author import Author, authoring

pytestmark = [pytest.mark.cluster, pytest.mark.alone]  # of one Gateway all tests ask
REDIRECT = {
    "apiVersion": ROUTE.api_version,
    "kind": ROUTE.name,
    "metadata": {"name": "to-https"},
    "spec": {
        "parentRefs": [{"name": PUBLIC["name"], "sectionName": "http"}],
        "rules": [
            {"filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}}]},
        ],
    },
}
AT_ONCE = "{strategy: blue-green}"


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        yield made


class Closed:
    """The Gateway with a listener of HTTP for nobody's routes but its own namespace's, of which one redirects all."""

    def __init__(self, api: Api) -> None:
        self._api = api
        found = api.find(GATEWAY, PUBLIC["namespace"], PUBLIC["name"])
        assert found is not None
        self._listeners = found["spec"]["listeners"]

    def __enter__(self) -> None:
        own = {"namespaces": {"from": "Same"}}
        self._listen([{**one, **({"allowedRoutes": own} if one["name"] == "http" else {})} for one in self._listeners])
        self._api.create(ROUTE, PUBLIC["namespace"], REDIRECT)

    def __exit__(self, *_: object) -> None:
        self._api.delete(ROUTE, PUBLIC["namespace"], "to-https")
        self._listen(self._listeners)

    def _listen(self, listeners: list[Any]) -> None:
        path, body = GATEWAY.path(PUBLIC["namespace"], PUBLIC["name"]), {"spec": {"listeners": listeners}}
        self._api._ask("PATCH", path, "change the Gateway", body=body, type_="merge-patch+json")


class ByName(http.client.HTTPSConnection):
    """A connection to the gateway by a name that nobody looks up."""

    def connect(self) -> None:
        found = layout()
        context = ssl.create_default_context(cafile=str(found.keys / "ca.crt"))
        plain = socket.create_connection((found.control.address, GATEWAY_HTTPS), timeout=10)
        self.sock = context.wrap_socket(plain, server_hostname=self.host)


def by_https(host: str) -> str:
    return _asked(ByName(host), host)


def by_http(host: str) -> str:
    return _asked(http.client.HTTPConnection(layout().control.address, GATEWAY_HTTP, timeout=10), host)


def _asked(connection: http.client.HTTPConnection, host: str) -> str:
    """Return what is answered, or where it sends on to."""
    try:
        connection.connect()
    except OSError as error:  # a gateway without a route for a listener may not listen
        return str(error)
    try:
        connection.request("GET", "/index.html?a=b", headers={"Host": host})
        answer = connection.getresponse()
        body = answer.read().decode().strip()
        return body if answer.status == 200 else f"{answer.status} {answer.getheader('Location')}"
    finally:
        connection.close()


def release(author: Author, greeting: str) -> str:
    author.write(greeting=greeting, rollout=AT_ONCE)
    file = author.folder / "instar.yaml"
    file.write_text(file.read_text().replace("listen: {http:", "listen: {https:"))
    return author.deploy()


def test_who_asks_by_http_is_sent_on_by_the_gateway_and_released_as_ever(author: Author) -> None:
    told = release(author, "hello")
    assert f"who asks for {author.host} by http is answered, and not sent to https: the listener 'http'" in told
    assert by_http(author.host) == by_https(author.host) == "1 hello s3cret"
    with Closed(author.namespace.api):
        to = f"301 https://{author.host}/index.html?a=b"
        assert until(lambda: by_http(author.host) == to, Deadline.after(30), every_s=0.2), by_http(author.host)
        assert by_https(author.host) == "1 hello s3cret"
        told = release(author, "hi")
        assert "by http" not in told and "cannot be asked" not in told, told
        assert (by_http(author.host), by_https(author.host)) == (to, "2 hi s3cret")
        author.instar("rollback", "prod")
        assert (by_http(author.host), by_https(author.host)) == (to, "1 hello s3cret")
        author.instar("drift", "prod")
        author.instar("destroy", "prod", "--yes")
        assert author.left() == []
        assert by_http(author.host) == to
