"""``uses`` on a real cluster: pods find another environment by the name of its Service, whatever release it has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import wait_for

from kubernetes_author import Author, authoring

pytestmark = pytest.mark.cluster

ASK = r"""
query() {
  printf "\\000\\$(printf %03o $((${#1} + 18)))"
  printf '\022\064\001\000\000\001\000\000\000\000\000\000'
  IFS=.; for part in $1; do printf "\\$(printf %03o ${#part})$part"; done; IFS=' '
  printf '\000\000\001\000\001'
}
dns=$(grep nameserver /etc/resolv.conf | head -n 1 | tr -d 'a-z ')
while :; do
  at=$({ query "$SHOP_HOST.cluster.local"; sleep 0.3; } | nc "$dns" 53 \
    | busybox tail -c 4 | busybox od -A n -t u1 | tr -s ' ' .)
  { printf 'GET / HTTP/1.0\r\n\r\n'; sleep 0.3; } | nc "${at#.}" "$SHOP_PORT" || echo "nobody answers at $at"
done
"""  # a static BusyBox asks no name server
FRONT = """\
name: front
image: {{base: scratch}}
service:
  command: {command}
  health: {{command: ["true"], deadline: 60s}}
  stop: {{grace: 1s}}
  limits: {{memory: 32M, cpus: 0.1}}
environments:
  prod:
    provider: kubernetes
    kubernetes: {{namespace: {namespace}, registry: "{registry}/front"}}
    uses: [shop]
"""


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        yield made


@pytest.mark.parametrize("where", ["inside", "behind a gateway", "behind a gateway, internal"])
def test_pods_find_a_service_by_its_name_while_releases_of_it_come_and_go(where: str, author: Author) -> None:
    folder = author.folder / "front"
    folder.mkdir()
    namespace = author.namespace
    (folder / "instar.yaml").write_text(
        FRONT.format(command=json.dumps(["sh", "-c", ASK]), namespace=namespace.name, registry=namespace.registry)
    )
    front = ("deploy", "prod", "-f", "front/instar.yaml", "--image", author.image)
    refused = author.instar(*front, status=1)
    assert "it uses 'shop/prod', which is not there" in refused
    usual = {"deadline": "60s", "instances": 1, "rollout": "{strategy: blue-green}"}
    usual |= {"gateway": where != "inside", "section": ", inside: true" if where == "behind a gateway" else ""}
    for greeting in ("hello", "hi"):
        author.write(greeting=greeting, **usual)
        path = author.folder / "instar.yaml"
        if where != "behind a gateway":
            path.write_text(path.read_text().replace(f'listen: {{http: ["{author.host}"]}}', "listen: internal"))
        author.deploy()
        if greeting == "hello":
            author.instar(*front)
        number = 1 if greeting == "hello" else 2
        wait_for(
            lambda said=f"{number} {greeting} s3cret": said in author.instar("logs", "front/prod"),
            lambda: f"it does not find the release: {author.instar('logs', 'front/prod')[-500:]}",
            timeout_s=40,
        )
    assert author.json("status", "front/prod")["active"] == 1, "nothing of who uses it was touched"
    [use] = author.json("status", "front/prod")["uses"]
    assert use == {"environment": "shop/prod", "name": f"shop-prod.{namespace.name}.svc:80", "trouble": None}
    for name in ("shop/prod", "front/prod"):
        assert json.loads(author.instar("drift", name, "--json"))["clean"]
    for name in ("front/prod", "shop/prod"):
        author.instar("destroy", name, "--yes")
