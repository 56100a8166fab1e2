"""What volumes hold, kept and brought back by a cluster's storage: with a release, by hand, and killed in between."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from administrator import Administrator
from clusters.cluster import Cluster
from clusters.layout import layout
from clusters.storage import CLASS, LATE_CLASS, snapshotting

from instar.errors import InstarError
from instar.providers.kubernetes.kinds import VOLUME_CLAIM, VOLUME_SNAPSHOT
from kubernetes_author import Author, authoring

pytestmark = [pytest.mark.cluster, pytest.mark.long]

KILLER = Path(__file__).with_name("api_killer.py")
SERVE = (
    "mkdir -p /tmp/www; cp /data/story /tmp/www/index.html || echo nothing >/tmp/www/index.html; "
    'echo "served by $INSTAR_RELEASE" >>/data/story; exec httpd -f -p 8080 -h /tmp/www'
)
MIGRATE = 'echo "migrated for $INSTAR_RELEASE" >>/data/story'
BEFORE = f"before: [{{command: {json.dumps(['sh', '-c', MIGRATE])}}}]"
WITH_DATA = ("--with-data", "--yes")
NEVER = 10**9
POINTS = int(os.environ.get("INSTAR_KILLED_POINTS", "3"))


@pytest.fixture
def nobody(tmp_path: Path) -> Iterator[Author]:
    """An author who has deployed nothing yet."""
    with snapshotting(Cluster(layout())), authoring(tmp_path) as made:
        yield made


@pytest.fixture
def author(nobody: Author) -> Author:
    write(nobody, "first", before="")
    nobody.deploy()
    return nobody


def write(
    author: Author, greeting: str, *, before: str = BEFORE, storage_class: str = CLASS, deadline: str = "30s"
) -> None:
    volume = "volumes: [{name: data, path: /data, access: exclusive, snapshot: true}]"
    author.write(
        command=["sh", "-c", SERVE],
        more=f"{volume}\n  {before}",
        section=f", storage_class: {storage_class}",
        instances=1,
        rollout="{strategy: blue-green}",
        greeting=greeting,
        deadline=deadline,
        gateway=False,
        host=f"shop-prod.{author.namespace.name}.svc",
    )


def story(author: Author) -> list[str]:
    """Return what is in the volume, as the service that runs has it."""
    done = author.verb("run", "prod", "--", "cat", "/data/story")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip().splitlines()


def snapshots(author: Author) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = author.json("volumes", "snapshots")
    return found


def claims(author: Author) -> list[str]:
    found = author.namespace.api.list(VOLUME_CLAIM, author.namespace.name, {})
    return [one["metadata"]["name"] for one in found if not one["metadata"].get("deletionTimestamp")]


def deploy_staging(author: Author) -> None:
    """Have another environment of the definition, in the same namespace."""
    text = (author.folder / "instar.yaml").read_text()
    here = text[text.index("  prod:\n") :]
    (author.folder / "instar.yaml").write_text(text + here.replace("prod", "staging"))
    author.instar("deploy", "staging", "--image", author.image)


@contextlib.contextmanager
def failing(why: str) -> Iterator[None]:
    """Have the storage make nothing."""
    fails = Cluster(layout()).layout.shared / "csi/fails"
    fails.write_text(f"{why}\n")
    try:
        yield
    finally:
        fails.unlink()


def killed(author: Author, point: int, *words: str) -> bool:
    """Run a command that is killed at a point of what it asks of the cluster; tell whether it came to that."""
    counted = author.folder / "count"
    done = author.run(sys.executable, "-B", str(KILLER), str(point), str(counted), *words)
    assert done.returncode in (0, -signal.SIGKILL), done.stdout + done.stderr
    return done.returncode != 0


def test_a_rollback_brings_back_what_a_migration_changed(author: Author) -> None:
    write(author, "second")
    told = author.deploy()
    assert "a snapshot of the volume 'data' is taken first, in the gap: its storage keeps it" in told
    (one,) = snapshots(author)
    assert (one["volume"], one["number"], one["running"], one["release"], one["before"]) == ("data", 1, False, 1, 2)
    assert story(author) == ["served by 1", "migrated for 2", "served by 2"]

    author.instar("rollback", "prod", "--with-data", "--yes")
    assert story(author) == ["served by 1", "served by 1"]
    assert claims(author) == ["shop-prod-data.1"]
    assert [each["number"] for each in snapshots(author)] == [1, 2]
    author.instar("drift", "prod", "--deep")  # exit status 1 were there any

    author.instar("rollback", "prod", "--to", "2", "--with-data", "--yes")
    assert story(author) == ["served by 1", "migrated for 2", "served by 2", "served by 2"]
    assert len(claims(author)) == 1


def test_whoever_kills_a_rollback_with_data_leaves_one_release_s_data(author: Author) -> None:
    write(author, "second")
    author.deploy()
    there, back = ("rollback", "prod", "--to", "1"), ("rollback", "prod", "--to", "2")
    counted = author.folder / "count"
    assert not killed(author, NEVER, *there, *WITH_DATA)
    calls = int(counted.read_text())
    for number in range(POINTS):
        author.instar(*back, *WITH_DATA)
        assert set(story(author)) == {"served by 1", "migrated for 2", "served by 2"}
        point = 2 + (calls - 3) * (number + 1) // (POINTS + 1)
        assert killed(author, point, *there, *WITH_DATA), point
        status = author.json("status", "prod")
        if status["active"] != 1 or status["rollout"] is not None:
            author.instar(*there, *WITH_DATA)
        assert set(story(author)) == {"served by 1"}, point
        assert len(claims(author)) == 1, point


def test_a_snapshot_is_restored_under_what_runs_and_whoever_is_killed_at_it_is_gone_on_with(author: Author) -> None:
    author.instar("volumes", "snapshot", "shop/prod", "data")
    author.instar("run", "prod", "--", "sh", "-c", "echo later >>/data/story")
    restore = ("volumes", "restore", "shop/prod", "data", "1", "--yes")
    author.instar(*restore)
    assert story(author) == ["served by 1", "served by 2"]
    author.instar("rollback", "prod", "--to", "1", "--with-data", "--yes")
    assert story(author) == ["served by 1", "later", "served by 1"]
    counted = author.folder / "count"
    assert not killed(author, NEVER, *restore)
    calls = int(counted.read_text())
    for number in range(POINTS):
        author.instar("run", "prod", "--", "sh", "-c", "echo later >>/data/story")
        assert killed(author, 2 + (calls - 3) * (number + 1) // (POINTS + 1), *restore)
        status = author.json("status", "prod")
        if status["rollout"] is not None or "later" in story(author):
            author.instar(*restore)
        active = author.json("status", "prod")["active"]
        assert story(author) == ["served by 1", f"served by {active}"]
        assert len(claims(author)) == 1


def test_a_claim_that_is_filled_when_its_first_pod_comes_counts_at_once_and_the_older_one_stays_until_then(
    nobody: Author,
) -> None:
    author = nobody
    write(author, "first", before="", storage_class=LATE_CLASS)
    author.deploy()
    write(author, "second", storage_class=LATE_CLASS)
    author.deploy()
    assert story(author) == ["served by 1", "migrated for 2", "served by 2"]
    author.instar("rollback", "prod", "--with-data", "--yes")
    assert sorted(claims(author)) == ["shop-prod-data", "shop-prod-data.1"]
    assert story(author) == ["served by 1", "served by 1"]
    write(author, "third", before="", storage_class=LATE_CLASS)
    author.deploy()
    assert story(author) == ["served by 1", "served by 1", "served by 3"]
    assert claims(author) == ["shop-prod-data.1"]


def test_storage_that_cannot_fill_a_claim_when_its_pod_comes_leaves_the_older_one_with_its_data(
    nobody: Author,
) -> None:
    author = nobody
    write(author, "first", before="", storage_class=LATE_CLASS)
    author.deploy()
    author.instar("volumes", "snapshot", "shop/prod", "data")
    author.instar("run", "prod", "--", "sh", "-c", "echo later >>/data/story")
    deploy_staging(author)
    author.instar("destroy", "prod", "--yes")
    author.instar("volumes", "restore", "shop/prod", "data", "1")
    both = ["shop-prod-data", "shop-prod-data.1", "shop-staging-data"]
    assert sorted(claims(author)) == both
    with failing("no room in the pool"):
        write(author, "second", before="", storage_class=LATE_CLASS, deadline="15s")
        assert "no room in the pool" in author.deploy(status=1)
        assert sorted(claims(author)) == both
        author.namespace.api.delete(VOLUME_CLAIM, author.namespace.name, "shop-prod-data.1")
    write(author, "third", before="", storage_class=LATE_CLASS)
    author.deploy()
    assert story(author)[:2] == ["served by 1", "later"]
    assert sorted(claims(author)) == ["shop-prod-data", "shop-staging-data"]


def test_by_hand_it_takes_the_printed_roles_and_what_a_driver_says_is_heard(author: Author) -> None:
    administrator = Administrator(author)
    try:
        administrator.apply("rbac")
        administrator.apply("policy")
        administrator.become_instar()
        by_hand(author, administrator)
    finally:
        administrator.clear()


def by_hand(author: Author, administrator: Administrator) -> None:
    author.instar("volumes", "snapshot", "shop/prod", "data")
    assert [(one["number"], one["running"]) for one in snapshots(author)] == [(1, True)]
    told = author.instar("volumes", "restore", "shop/prod", "data", "1", status=64)
    assert "takes what was written since snapshot 1 out of the volume" in told
    author.instar("volumes", "copy", "shop/prod", "data", "shop/staging")
    deploy_staging(author)
    done = author.verb("run", "staging", "--", "cat", "/data/story")
    assert done.stdout.splitlines() == ["served by 1", "served by 1"]  # prod's first release, and staging's

    with pytest.raises(InstarError, match=r"only Instar's account (makes and )?removes"):  # of two
        administrator.api.delete(VOLUME_SNAPSHOT, author.namespace.name, "shop-prod-data.1")
    author.instar("destroy", "prod", "--yes")
    author.instar("volumes", "restore", "shop/prod", "data", "1")  # found, since staging is there
    assert sorted(claims(author)) == ["shop-prod-data.1", "shop-staging-data"]
    assert [one["number"] for one in snapshots(author)] == [1, 2]

    with failing("no room in the pool"):
        told = author.instar("volumes", "restore", "shop/prod", "data", "1", status=1)
    assert "no room in the pool" in told
    assert sorted(claims(author)) == ["shop-prod-data.1", "shop-staging-data"]
    author.instar("volumes", "remove", "shop/prod", "data", "--snapshot", "1", "--yes")
    assert [one["number"] for one in snapshots(author)] == [2]
