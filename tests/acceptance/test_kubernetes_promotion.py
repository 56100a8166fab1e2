"""What ran on this machine runs on a cluster next: the same image by the same digest, and the same way back."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import leftovers
import pytest

from free_ports import free_port
from instar.providers.kubernetes.kinds import POD
from kubernetes_author import Author, Requests, authoring

pytestmark = [pytest.mark.cluster, pytest.mark.root]

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
