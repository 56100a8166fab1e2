"""What ran on this machine runs on a cluster next: the same image by the same digest, and the same way back."""

from __future__ import annotations

import base64
import json
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import leftovers
import pytest
from clusters.layout import layout

from free_ports import free_port
from instar.providers.kubernetes.kinds import POD, SECRET
from kubernetes_author import Author, Requests, authoring
from passing_on import PassingOn
from registries import RealRegistry, running

pytestmark = [pytest.mark.cluster, pytest.mark.root]
USER, PASSWORD = "ann", "s3cret-word"
HTPASSWD = "ann:$2b$04$mKsHahJh9r1NlOS0VQfrfeMH0IOdQ4YcqKH/cscg8wq4oZI.F7.tS\n"  # of both, by bcrypt

DEV = """\
  dev:
    listen: 127.0.0.1:{port}
    config: {{GREETING: {greeting}}}
    secrets: {{TOKEN: {{file: token}}}}
"""


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        yield made
        for environment in ("prod", "dev"):
            made.instar("destroy", environment, "--yes")
        assert made.left() == []
        assert leftovers.remaining(lambda: leftovers.traces((tmp_path / "id").read_text().strip())) == []
    leftovers.remove_state(tmp_path)


def write(author: Author, port: int, greeting: str) -> None:
    author.write(greeting=greeting)
    definition = author.folder / "instar.yaml"
    text = definition.read_text().replace(
        "    provider: kubernetes\n", "    provider: kubernetes\n    promote_from: dev\n"
    )
    definition.write_text(text + DEV.format(port=port, greeting=greeting))


def test_the_image_that_runs_here_is_the_one_that_runs_there(author: Author) -> None:
    port = free_port()
    write(author, port, "hello")
    author.instar("deploy", "dev", "--image", author.image)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        assert answer.read().decode().strip() == "1 hello s3cret"
    author.instar("promote", "dev", "prod")
    pods = author.namespace.api.list(POD, author.namespace.name, {"instar/service": "shop"})
    assert {pod["spec"]["containers"][0]["image"].partition("@")[2] for pod in pods} == {author.image}
    assert len(pods) == 2

    with Requests(author) as asked:
        write(author, port, "hi")
        author.instar("deploy", "dev", "--image", author.image)
        author.instar("promote", "dev", "prod")
        author.instar("rollback", "prod")
    assert set(asked.answers) == {"1 hello s3cret", "2 hi s3cret"}, asked.answers
    shown = {(one["service"], one["environment"]) for one in author.json("status")}
    assert shown == {("shop", "dev"), ("shop", "prod")}


@pytest.fixture
def private(author: Author, tmp_path: Path) -> Iterator[str]:
    """A registry that wants a password, as this machine and the nodes reach it; the author has logged in to it."""
    with (
        running(RealRegistry(tmp_path / "registry", htpasswd=HTPASSWD)) as registry,
        PassingOn(layout().host_address, registry.port) as passing,
    ):
        host = f"{layout().host_address}:{passing.port}"
        plain = layout().state / "registries" / host
        plain.mkdir(parents=True)
        (plain / "hosts.toml").write_text(f'server = "http://{host}"\n[host."http://{host}"]\n')
        machine = tmp_path / "config.yaml"
        machine.write_text(f"{machine.read_text().strip()[:-1]}, '{host}': {{http: true}}}}\n")
        (tmp_path / "config.json").write_text(login(host, PASSWORD))
        author.namespace.environ["DOCKER_CONFIG"] = str(tmp_path)
        yield host
        shutil.rmtree(plain)


def login(host: str, password: str) -> str:
    return json.dumps({"auths": {host: {"auth": base64.b64encode(f"{USER}:{password}".encode()).decode()}}})


def have_pull_secret(author: Author, host: str, password: str) -> None:
    data = {".dockerconfigjson": base64.b64encode(login(host, password).encode()).decode()}
    secret = {"metadata": {"name": "login"}, "type": "kubernetes.io/dockerconfigjson", "data": data}
    api, where = author.namespace.api, author.namespace.name
    api.delete(SECRET, where, "login")
    api.create(SECRET, where, secret)


def test_it_comes_by_its_digest_from_a_registry_that_wants_a_password(author: Author, private: str) -> None:
    write(author, free_port(), "hello")
    definition = author.folder / "instar.yaml"
    told = definition.read_text().replace(f"{author.namespace.registry}/shop", f"{private}/team/shop")
    definition.write_text(told.replace("30s", "10s"))
    author.instar("deploy", "dev", "--image", author.image)
    nobody = author.instar("promote", "dev", "prod", status=1)
    assert "(without a password: 'kubernetes.pull_secret' names a Secret" in nobody

    definition.write_text(told.replace("pre_stop: 2s", "pre_stop: 2s, pull_secret: login").replace("30s", "10s"))
    author.instar("deploy", "dev", "--image", author.image)
    assert "cannot find the Secret 'login'" in author.instar("promote", "dev", "prod", status=1)

    have_pull_secret(author, private, "another")
    told = author.instar("promote", "dev", "prod", status=1)
    assert "401 Unauthorized" in told and "the password of the Secret 'login'" in told
    assert [one for one in author.left() if not one.startswith("HTTPRoute ")] == []

    have_pull_secret(author, private, PASSWORD)
    author.instar("promote", "dev", "prod")
    pods = author.namespace.api.list(POD, author.namespace.name, {"instar/service": "shop"})
    named = {pod["spec"]["containers"][0]["image"] for pod in pods if not pod["metadata"].get("deletionTimestamp")}
    assert named == {f"{private}/team/shop@{author.image}"}
