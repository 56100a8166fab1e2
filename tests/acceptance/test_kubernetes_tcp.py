"""On a real cluster: a service that speaks tcp, one with further ports, and a name with several paths."""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from instar.errors import InstarError
from instar.providers.kubernetes.kinds import SERVICE
from kubernetes_author import SERVE, Author, authoring

pytestmark = pytest.mark.cluster
BOTH = SERVE.replace("httpd -f -p 8080", "httpd -f -p 9000 -h /tmp/www & httpd -f -p 8080")
TCP = {
    "gateway": False,
    "instances": 1,
    "rollout": "{strategy: blue-green}",
    "command": ["sh", "-c", BOTH],
    "more": "protocol: tcp\n  ports: {admin: 9000}",
}


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        yield made


def write(author: Author, **changed: str) -> None:
    """Have a definition of a service of tcp, which has no names."""
    author.write(**{**TCP, **changed})
    path = author.folder / "instar.yaml"
    text = path.read_text().replace(f'listen: {{http: ["{author.host}"]}}', "listen: internal")
    path.write_text(text.replace("health: {path: /, ", "health: {tcp: true, "))


def answered(author: Author, port: str) -> str:
    """Return what the Service's pods say at a port of its, asked through the API."""
    api, where = author.namespace.api, author.namespace.name
    try:
        status, content = api.answer(SERVICE.path(where, f"shop-prod:{port}", "proxy") + "/", 5, {})
        return content.decode().strip() if status == 200 else f"status {status} {content.decode()[:300]}"
    except InstarError as error:
        return repr(error)


def test_a_service_of_tcp_and_its_further_port_move_together_and_nobody_is_refused(author: Author) -> None:
    write(author)
    author.deploy()
    assert [answered(author, one) for one in ("80", "8080", "9000")] == ["1 hello s3cret"] * 3
    write(author, greeting="hi")
    counted, over = Counter[str](), threading.Event()

    def ask() -> None:
        while not over.wait(0.02):
            counted.update(answered(author, one) for one in ("8080", "9000"))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        author.deploy()
        author.instar("rollback", "prod")
    finally:
        over.set()
        asking.join()
    assert counted.keys() == {"1 hello s3cret", "2 hi s3cret"}, counted
    assert json.loads(author.instar("drift", "prod", "--json"))["clean"]
    path = author.folder / "instar.yaml"
    behind = "pre_stop: 2s, gateway: {name: public, namespace: gateways}"
    path.write_text(path.read_text().replace("pre_stop: 2s", behind))
    assert "has no TCPRoute" in author.deploy(status=1)
    author.instar("destroy", "prod", "--yes")


def test_a_name_with_several_paths_is_reached_by_each_and_by_no_other(author: Author) -> None:
    script = SERVE.replace("echo serving", "mkdir /tmp/www/a /tmp/www/b; cp /tmp/www/index.html /tmp/www/a; "
                           "cp /tmp/www/index.html /tmp/www/b; echo serving")  # fmt: skip
    usual = {"instances": 1, "rollout": "{strategy: blue-green}", "command": ["sh", "-c", script]}
    author.write(host=f'{author.host}/a", "{author.host}/b', **usual)
    author.deploy()

    def status(path: str) -> int:
        where = urlsplit(author.namespace.gateway)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)
        connection.request("GET", path, headers={"Host": author.host})
        return connection.getresponse().status

    assert [status(one) for one in ("/a/", "/b/", "/", "/c/")] == [200, 200, 404, 404]
    assert json.loads(author.instar("drift", "prod", "--json"))["clean"]
    author.write(host=f'{author.host}/a", "{author.host}/b', greeting="hi", **usual)
    author.deploy()
    author.instar("rollback", "prod")
    assert status("/b/") == 200
