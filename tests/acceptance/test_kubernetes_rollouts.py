"""A rollout on a cluster is looked at, held, taken on and given up by a word, and a release that does not stay well is
left again: with requests all the while."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from test_kubernetes_members import is_ready

from instar.providers.kubernetes.kinds import POD
from instar.providers.kubernetes.names import GROUP
from instar.providers.kubernetes.observation import runs
from instar.waiting import Deadline, until
from kubernetes_author import MAIN, SERVE, Author, Requests, authoring

pytestmark = pytest.mark.cluster
LOOKED_AT = "{strategy: canary, steps: [{weight: 0, pause: manual}, 50], pause: 1s}"
HALF = "{strategy: canary, steps: [{weight: 50, pause: manual}]}"
AFTER = 'after: [{command: [sh, -c, "echo pruning for $INSTAR_RELEASE"]}]'


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        yield made
        for one in made.begun:
            one.kill()
            one.communicate()
        made.instar("destroy", "prod", "--yes")
        assert made.left() == []


def await_so(is_so: Callable[[], bool], what: str) -> None:
    assert until(is_so, Deadline.after(60), every_s=0.2), what


def begin(author: Author, *words: str) -> subprocess.Popen[str]:
    deploy: subprocess.Popen[str] = author.start(
        sys.executable, "-c", MAIN, "deploy", "prod", "--image", author.image, *words
    )
    author.begun.append(deploy)
    return deploy


def end(deploy: subprocess.Popen[str], status: int) -> str:
    out, err = deploy.communicate(timeout=120)
    assert deploy.returncode == status, out + err
    return out + err


def previewed(author: Author, release: int) -> str:
    """Return what whoever asks for a release by its number is answered."""
    where = urlsplit(author.namespace.gateway)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)
    try:
        connection.request("GET", "/", headers={"Host": author.host, "X-Instar-Release": str(release)})
        answer = connection.getresponse()
        body = answer.read().decode().strip()
        return body if answer.status == 200 else str(answer.status)
    finally:
        connection.close()


def rollout(author: Author) -> Any:
    return author.json("status", "prod")["rollout"]


def tasks(author: Author) -> list[tuple[str, str]]:
    found = (one["detail"] for one in author.json("history", "prod") if one["kind"] == "task")
    return [(one["task"], one["outcome"]) for one in found]


def serving(author: Author) -> dict[str, int]:
    return {name: weight for name, weight in author.weights().items() if weight}


def test_it_is_looked_at_and_goes_on_or_back_by_a_word(author: Author) -> None:
    author.write(instances=1, settings="preview: header", rollout=LOOKED_AT)
    author.deploy()
    with Requests(author) as asked:
        author.write(instances=1, settings="preview: header", rollout=LOOKED_AT, greeting="hi", more=AFTER)
        deploy = begin(author)
        await_so(lambda: previewed(author, 2) == "2 hi s3cret", "the new one can be looked at")
        await_so(lambda: bool((rollout(author) or {}).get("paused")), "it waits for a word")
        assert set(asked.answers) == {"1 hello s3cret"}, "nobody else came to it"
        author.instar("rollout", "resume", "prod")
        end(deploy, 0)
        assert serving(author) == {"shop-prod-2-1": 100}
        assert tasks(author) == [("after 1", "done")]
        task = next(one["detail"] for one in author.json("history", "prod") if one["kind"] == "task")
        assert "pruning for 2" in json.dumps(task)

        author.write(instances=1, rollout=HALF, greeting="bad")
        deploy = begin(author)
        await_so(lambda: asked.answers["3 bad s3cret"] > 20, "the next one has its share")
        assert asked.answers["2 hi s3cret"] > 20
        author.instar("rollout", "abort", "prod", "--why", "a typo")
        assert "aborted: a typo" in end(deploy, 1)
        assert serving(author) == {"shop-prod-2-1": 100}
        assert not any("shop-prod-3-1" in one for one in author.left()), author.left()
    assert set(asked.answers) == {"1 hello s3cret", "2 hi s3cret", "3 bad s3cret"}, asked.answers


@pytest.mark.long
def test_a_pause_holds_it_before_the_traffic_moves(author: Author) -> None:
    author.write(instances=1, rollout="{strategy: blue-green}")
    author.deploy()
    with Requests(author) as asked:
        waits = ["sh", "-c", f"until [ -e /tmp/go ]; do sleep 0.1; done; {SERVE}"]
        author.write(instances=1, rollout="{strategy: blue-green}", greeting="hi", command=waits)
        deploy = begin(author)
        api, where = author.namespace.api, author.namespace.name
        await_so(lambda: any(map(runs, pods(author, "shop-prod-2-1"))), "it has begun")
        author.instar("rollout", "pause", "prod")
        (pod,) = pods(author, "shop-prod-2-1")
        assert api.run(where, pod["metadata"]["name"], ("touch", "/tmp/go"), 10)[0] == 0
        await_so(lambda: all(map(is_ready, pods(author, "shop-prod-2-1"))), "the new one is ready")
        told = rollout(author)
        assert told["paused"] and deploy.poll() is None and serving(author) == {"shop-prod-1-1": 100}
        author.instar("rollout", "resume", "prod")
        end(deploy, 0)
        assert serving(author) == {"shop-prod-2-1": 100}
    assert set(asked.answers) <= {"1 hello s3cret", "2 hi s3cret"}, asked.answers


def pods(author: Author, group: str) -> tuple[Mapping[str, Any], ...]:
    return author.namespace.api.list(POD, author.namespace.name, {GROUP: group})


@pytest.mark.long
def test_a_release_that_does_not_stay_well_is_left_again_by_itself(author: Author) -> None:
    watched = "{strategy: blue-green, watch: 2m}"
    author.write(rollout=watched)
    author.deploy()
    author.write(rollout=watched, greeting="hi")
    with Requests(author) as asked:
        deploy = begin(author, "--watch")
        await_so(lambda: asked.answers["2 hi s3cret"] > 20 and rollout(author) is None, "it has rolled out")
        api, where = author.namespace.api, author.namespace.name
        for pod in pods(author, "shop-prod-2-1"):
            assert api.run(where, pod["metadata"]["name"], ("sh", "-c", "rm /tmp/www/index.html"), 10)[0] == 0
        told = end(deploy, 1)
        assert "release 2 did not stay well: shop-prod-2-1 no longer answers" in told
        assert serving(author) == {"shop-prod-1-1": 100}
        first = asked.answers["1 hello s3cret"]
        await_so(lambda: asked.answers["1 hello s3cret"] > first + 50, "the one before serves again")
    bad = [answer for answer in asked.answers if "s3cret" not in answer]
    assert bad and all(asked.ended[one] < asked.ended["1 hello s3cret"] - 0.5 for one in bad), "none is lost after that"
    assert "watch-failed" in {one["kind"] for one in author.json("history", "prod")}
