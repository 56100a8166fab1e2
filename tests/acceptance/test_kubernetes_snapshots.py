"""What volumes hold, kept and brought back by a cluster's storage: with a release, by hand, and killed in between."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusters.cluster import Cluster
from clusters.layout import layout
from clusters.storage import CLASS, snapshotting

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
POINTS = int(os.environ.get("INSTAR_KILLED_POINTS", "3"))


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with snapshotting(Cluster(layout())), authoring(tmp_path) as made:
        write(made, "first", before="")
        made.deploy()
        yield made
        made.instar("destroy", "prod", "--volumes", "--yes")
        for one in made.namespace.api.list(VOLUME_SNAPSHOT, made.namespace.name, {}):
            made.namespace.api.delete(VOLUME_SNAPSHOT, made.namespace.name, one["metadata"]["name"])


def write(author: Author, greeting: str, *, before: str = BEFORE, access: str = "exclusive") -> None:
    volume = f"volumes: [{{name: data, path: /data, access: {access}, snapshot: true}}]"
    author.write(
        command=["sh", "-c", SERVE],
        more=f"{volume}\n  {before}",
        section=f", storage_class: {CLASS}",
        instances=1,
        rollout="{strategy: blue-green}",
        greeting=greeting,
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
