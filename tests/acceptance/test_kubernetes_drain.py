"""Requests that last longer than a switch are answered whole, by the release that they came to, which then ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.providers.kubernetes.kinds import DEPLOYMENT
from instar.waiting import Deadline, until
from kubernetes_author import Author, Requests, authoring

pytestmark = pytest.mark.cluster
SLOW = (
    "mkdir -p /tmp/www/cgi-bin; echo well >/tmp/www/index.html; "
    "printf '#!/bin/sh\\nsleep 3; printf \"Status: 200 OK\\\\r\\\\n\\\\r\\\\nslowly by %s\"' $INSTAR_RELEASE "
    ">/tmp/www/cgi-bin/slow; chmod +x /tmp/www/cgi-bin/slow; "
    'httpd -f -p 8080 -h /tmp/www & trap "kill $!; exit" TERM; wait'
)


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        yield made


def release(author: Author, greeting: str, strategy: str) -> None:
    """Roll out a release which keeps none hot, and leaves requests longer than they take."""
    author.write(
        greeting=greeting,
        command=["sh", "-c", SLOW],
        stop="{grace: 1s, drain: 4s}",
        rollout=f"{{strategy: {strategy}}}",
        settings="keep: {hot: 0}",
    )
    author.deploy()


def is_gone(author: Author, group: str) -> bool:
    return author.namespace.api.find(DEPLOYMENT, author.namespace.name, group) is None


@pytest.mark.parametrize("strategy", ["rolling", pytest.param("blue-green", marks=pytest.mark.long)])
def test_a_request_that_outlasts_a_switch_is_answered_whole(author: Author, strategy: str) -> None:
    release(author, "one", strategy)
    with Requests(author, "/cgi-bin/slow", at_once=8, apart_s=0.4) as asked:
        assert until(lambda: "slowly by 1" in asked.answers, Deadline.after(30), every_s=0.1), asked.answers
        release(author, "two", strategy)
        gone = until(lambda: is_gone(author, "shop-prod-1-1"), Deadline.after(60), every_s=0.2)
        assert gone, author.left()
    assert set(asked.answers) == {"slowly by 1", "slowly by 2"}, asked.answers
    assert asked.ended["slowly by 1"] > asked.begun["slowly by 2"] + 1, "it went on while the next served"
