"""A pod that is not what was made is replaced by itself: its group, and the requests, go on."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from test_kubernetes_drift import Tamperer

from instar.providers.kubernetes.kinds import POD
from instar.providers.kubernetes.names import ASIDE_AT, GROUP, TAINTED
from instar.waiting import Deadline, until
from kubernetes_author import MAIN, Author, Requests, authoring

pytestmark = pytest.mark.cluster
REPLACE = "drift: {action: replace}"


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        yield made


def agent(author: Author) -> None:
    author.instar("agent", "--once")


def await_passes(author: Author, is_so: Callable[[], bool], what: str) -> None:
    """Have the agent make passes until something is so."""

    def passed() -> bool:
        agent(author)
        return is_so()

    assert until(passed, Deadline.after(90), every_s=0.5), what


def kept(author: Author) -> list[Mapping[str, Any]]:
    """Return the pods that were set aside."""
    found = author.namespace.api.list(POD, author.namespace.name, {TAINTED: "shop-prod-1-1"})
    return [one for one in found if GROUP not in one["metadata"]["labels"]]


def members(author: Author) -> list[str]:
    """Return the names of the pods that answer as the release's."""
    found = author.namespace.api.list(POD, author.namespace.name, {GROUP: "shop-prod-1-1"})
    ready = [one for one in found if not one["metadata"].get("deletionTimestamp") and is_ready(one)]
    return sorted(str(one["metadata"]["name"]) for one in ready)


def is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod["status"].get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


@pytest.mark.parametrize("instances", [1, 2])
def test_only_the_pod_that_drifted_is_replaced_and_kept_and_no_request_is_lost(author: Author, instances: int) -> None:
    author.write(settings=REPLACE, instances=instances)
    author.deploy()
    before = members(author)
    tamperer = Tamperer(author)
    with Requests(author) as requests:
        tampered = tamperer.pods()[0]["metadata"]["name"]
        tamperer.ephemeral()
        await_passes(author, lambda: len(members(author)) == instances and tampered not in members(author), "replaced")
        time.sleep(1)  # of requests to who is there now
    assert set(requests.answers) == {"1 hello s3cret"}
    assert set(before) - {tampered} <= set(members(author)), "the others are left alone"
    (aside,) = kept(author)
    assert aside["metadata"]["name"] == tampered
    assert aside["metadata"]["annotations"][ASIDE_AT]
    assert not aside["metadata"].get("ownerReferences"), "nobody makes it go"
    history = [one for one in author.json("history", "prod") if one["kind"].startswith(("member", "taint", "drift"))]
    kinds = [one["kind"] for one in history]
    assert list(dict.fromkeys(kinds)) == ["drift", "member-taint", "member-aside"]
    assert (kinds.count("member-taint"), kinds.count("member-aside")) == (1, 1)
    evidence = json.loads((author.folder / "evidence" / history[0]["detail"]["evidence"]).read_text())
    assert [one["pod"] for one in evidence["processes"]].count(tampered) == 1
    assert [one["id"] for one in author.json("status", "prod")["releases"][0]["instances"]] == ["shop-prod-1-1"]
    assert author.json("drift", "prod")["clean"]

    author.write(settings=REPLACE, instances=instances, section=", evidence: 1s")
    author.deploy()
    await_passes(author, lambda: not kept(author), "its time is over")
    assert author.json("history", "prod")[-1]["kind"] == "member-removed"
    author.instar("destroy", "prod", "--yes")
    assert until(lambda: author.left() == [], Deadline.after(30), every_s=0.5), author.left()


def test_what_is_killed_between_the_steps_is_gone_on_with(author: Author) -> None:
    author.write(settings=REPLACE)
    author.deploy()
    tamperer = Tamperer(author)
    tampered = tamperer.pods()[0]["metadata"]["name"]
    tamperer.ephemeral()
    for call in ("taint_member", "set_aside", "set_member_aside"):
        killed = author.run(sys.executable, "-c", KILLED_BEFORE.format(call=call), "agent", "--once")
        assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    assert [one["metadata"]["name"] for one in kept(author)] == [tampered], "it was killed before that was written"
    await_passes(author, lambda: len(members(author)) == 2, "another is made")
    kinds = [one["kind"] for one in author.json("history", "prod")]
    assert (kinds.count("member-taint"), kinds.count("member-aside")) == (1, 1)
    author.instar("destroy", "prod", "--yes")
    assert until(lambda: author.left() == [], Deadline.after(30), every_s=0.5), "it goes with its environment"


KILLED_BEFORE = f"""\
import os, signal
from instar.ledger.members import Members
from instar.providers.kubernetes.members import ClusterMembers
def dies(*arguments, **named):
    os.kill(os.getpid(), signal.SIGKILL)
for owner in (Members, ClusterMembers):
    if hasattr(owner, "{{call}}"):
        setattr(owner, "{{call}}", dies)
{MAIN}
"""
