"""A cluster's API that answers badly, at each thing that is asked of it: a deploy, a canary, a rollback and the end of
all come out as they would have, nothing is decided or made twice, and no request is lost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubernetes_author import Author, Requests, authoring
from kubernetes_faults import BadDoor

pytestmark = pytest.mark.cluster

CANARY = "{strategy: canary, steps: [50], pause: 200ms}"
PATIENCE = "1m"


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
    "fault", [pytest.param(one, marks=pytest.mark.long) for one in (409, 429, 500, 503, "refused", "lost", "cut")]
)
def test_each_thing_is_answered_badly_the_first_time_that_it_is_asked(author: Author, fault: int | str) -> None:
    door = BadDoor(author.namespace.api, lambda method, path, before: fault if before == 0 else None)
    try:
        journey(author, door)
    finally:
        door.close()
    assert len(door.hit) > 20


def test_the_answers_of_what_makes_and_changes_are_lost(author: Author) -> None:
    def lost(method: str, path: str, before: int) -> str | None:
        return "lost" if method != "GET" and before == 0 and "review" not in path else None

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
