"""A cluster's API that answers badly, at each thing that is asked of it: a deploy, a canary, a rollback and the end of
all come out as they would have, nothing is decided or made twice, and no request is lost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.waiting import Deadline, until
from kubernetes_author import MAIN, Author, Requests, authoring
from kubernetes_faults import BadDoor

pytestmark = pytest.mark.cluster

CHANGING = ("POST", "PATCH", "DELETE")
CANARY = "{strategy: canary, steps: [50], pause: 200ms}"
PATIENCE = "1m"
IN_A_HURRY = f"import instar.providers.kubernetes.connection as connection; connection.TIMEOUT_S = 5.0\n{MAIN}"


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        yield made


def journey(author: Author, door: BadDoor) -> None:
    """Deploy, deploy as a canary, roll back and destroy through the bad door; all has to be as it would have been."""
    author.namespace.environ["KUBECONFIG"] = str(door.kubeconfig(author.folder))
    author.write(deadline=PATIENCE)
    author.deploy()
    with Requests(author) as asked:
        author.write(greeting="hi", rollout=CANARY, deadline=PATIENCE)
        author.deploy()
        author.instar("rollback", "prod")
    assert set(asked.answers) == {"1 hello s3cret", "2 hi s3cret"}, asked.answers
    status = author.json("status", "prod")
    assert [(one["number"], one["weight"], one["state"]) for one in status["releases"]] == [
        (2, 0, "hot"),
        (1, 100, "active"),
    ]
    kinds = Counter(one["kind"] for one in author.json("history", "prod"))
    decided = [kinds[one] for one in ("release", "launch", "rollout", "rollout-done")]
    assert decided == [2, 2, 3, 3], f"each thing was decided once: {kinds}"
    author.instar("destroy", "prod", "--yes")
    assert author.left() == []
    made = Counter(path for method, path, status in door.changes if method == "POST" and status == 201)
    deployments = [number for path, number in made.items() if path.endswith("/deployments")]
    assert deployments == [2], f"each group was made once: {made}"


@pytest.mark.parametrize(
    "fault",
    [pytest.param(one, marks=pytest.mark.long) for one in (409, 429, 500, 503, "refused", "silent", "lost", "cut")],
)
def test_each_thing_is_answered_badly_the_first_time_that_it_is_asked(author: Author, fault: int | str) -> None:
    author.main = IN_A_HURRY if fault == "silent" else MAIN
    door = BadDoor(author.namespace.api, lambda method, path, before: fault if before == 0 else None)
    try:
        journey(author, door)
    finally:
        door.close()
    assert len(door.hit) > 20
    watched = {path.rpartition("/")[2] for method, path, _ in door.hit if method == "WATCH"}
    assert {"deployments", "httproutes"} & watched, "watches are among what is answered badly"


@pytest.mark.long
@pytest.mark.parametrize("fault", ["silent", "cut"])
def test_what_makes_and_changes_and_each_watch_gets_no_answer(author: Author, fault: str) -> None:
    """A silent connection is noticed, and what was not done is done again; a watch decides nothing."""
    author.main = IN_A_HURRY if fault == "silent" else MAIN

    def bad(method: str, path: str, before: int) -> str | None:
        return fault if method == "WATCH" or (method in CHANGING and before == 0 and "review" not in path) else None

    door = BadDoor(author.namespace.api, bad)
    try:
        journey(author, door)
    finally:
        door.close()
    hit = Counter("WATCH" if method == "WATCH" else "changed" for method, _, _ in door.hit)
    assert hit["WATCH"] > 1 and hit["changed"] > 5, hit


@pytest.mark.parametrize("status", [401, pytest.param(403, marks=pytest.mark.long)])
def test_rights_that_are_gone_in_the_middle_of_a_rollout_cost_no_request(author: Author, status: int) -> None:
    door = BadDoor(author.namespace.api, lambda *_: None)
    author.namespace.environ["KUBECONFIG"] = str(door.kubeconfig(author.folder))
    try:
        author.write(deadline=PATIENCE)
        author.deploy()
        with Requests(author) as asked:
            author.write(greeting="hi", rollout="{strategy: canary, steps: [50], pause: 30s}", deadline=PATIENCE)
            deploying = author.start_deploy()
            assert until(lambda: min(author.weights().values()) > 0 and len(author.weights()) > 1, Deadline.after(60))
            door.fault = lambda method, path, before: None if path == "/readyz" else status
            out, err = deploying.communicate(timeout=60)
            assert deploying.returncode == 1, out + err
            assert "does not accept these credentials" in err or "by the bad door" in err
            door.fault = lambda *_: None
            author.write(greeting="hi", rollout=CANARY, deadline=PATIENCE)
            author.deploy()
        assert set(asked.answers) <= {"1 hello s3cret", "2 hi s3cret", "3 hi s3cret"}, asked.answers
        active = [one for one in author.json("status", "prod")["releases"] if one["state"] == "active"]
        assert [one["weight"] for one in active] == [100]
        author.instar("destroy", "prod", "--yes")
        assert author.left() == []
    finally:
        door.close()


def test_the_answers_of_what_makes_and_changes_are_lost(author: Author) -> None:
    def lost(method: str, path: str, before: int) -> str | None:
        return "lost" if method in CHANGING and before == 0 and "review" not in path else None

    door = BadDoor(author.namespace.api, lost)
    try:
        journey(author, door)
    finally:
        door.close()
    assert len(door.hit) > 5


@pytest.mark.long
def test_every_fourth_call_is_answered_badly_in_any_way(author: Author) -> None:
    chance = random.Random(4)
    kinds = (409, 429, 500, 503, "refused", "lost", "cut")
    door = BadDoor(author.namespace.api, lambda *_: chance.choice(kinds) if chance.random() < 0.25 else None)
    try:
        journey(author, door)
    finally:
        door.close()
    assert len(door.hit) > 20
