"""Who was stopped in the middle of a change, and lost the lease to somebody else, changes nothing when it wakes up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.providers.kubernetes.kinds import LEASE, ROUTE
from instar.store import Store
from instar.waiting import Deadline, until
from kubernetes_author import MAIN, Author, authoring
from kubernetes_namespace import tiny_image
from postgres import PostgresServer

pytestmark = [pytest.mark.cluster, pytest.mark.root]
STOPPER = Path(__file__).with_name("api_stopper.py")
BLUE_GREEN = "{strategy: blue-green}"


class Successor:
    """Somebody on another machine, who shares the author's ledger and cluster."""

    def __init__(self, author: Author, folder: Path) -> None:
        folder.mkdir()
        tiny_image(Store(folder / "store"), folder)
        self._author = author
        config = author.folder / "config.yaml"
        self._environ = {**author.namespace.environ, "INSTAR_HOME": str(folder), "INSTAR_CONFIG": str(config)}

    def instar(self, *words: str, told: str = "") -> str:
        environ = {**self._environ, "PYTHONPATH": ":".join(sys.path)}
        argv = [sys.executable, "-c", MAIN, *words]
        done = subprocess.run(  # noqa: PLW1510  looked at below
            argv, cwd=self._author.folder, env=environ, input=told, capture_output=True, text=True, timeout=180
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def author(tmp_path: Path, postgres: PostgresServer) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        made.namespace.environ["INSTAR_LEDGER"] = postgres.address(postgres.database(postgres.template))
        made.write(rollout=BLUE_GREEN)
        made.deploy()
        yield made
        for process in made.begun:
            process.kill()
            process.communicate()
        made.instar("destroy", "prod", "--yes")
        assert made.left() == []
        assert made.namespace.api.find(LEASE, made.namespace.name, "shop-prod-lease") is None


@pytest.fixture
def successor(author: Author, tmp_path: Path) -> Successor:
    made = Successor(author, tmp_path / "successor")
    made.instar("ledger", "key", "import", told=author.instar("ledger", "key", "export"))
    return made


def stopped(author: Author, method: str, pattern: str, *words: str) -> subprocess.Popen[str]:
    """Begin a command, and return it once it has stopped before that call."""
    process = author.start(sys.executable, "-IB", str(STOPPER), method, pattern, *words)
    author.begun.append(process)
    assert until(lambda: is_stopped(process.pid), Deadline.after(60)), process.communicate()
    return process


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def woken(process: subprocess.Popen[str]) -> str:
    """Continue it; return what it says until it ends, with the status of one who has lost the lease."""
    os.kill(process.pid, signal.SIGCONT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75, out + err
    return out + err


def test_its_route_stays_where_the_successor_has_it(author: Author, successor: Successor) -> None:
    author.write(rollout=BLUE_GREEN, greeting="hi")
    moved = r'httproutes/.*"shop-prod-2-\d+", "port": 8080, "weight": 100'
    process = stopped(author, "PATCH", moved, "deploy", "prod", "--image", author.image)
    successor.instar("rollback", "prod", "--take-over")
    before = author.weights()
    assert "its lease has ended meanwhile" in woken(process)
    assert author.weights() == before
    assert [name.rpartition("-")[0] for name, weight in before.items() if weight] == ["shop-prod-1"]


def test_what_it_would_make_is_not_made(author: Author, successor: Successor) -> None:
    author.write(rollout=BLUE_GREEN, greeting="hi")
    process = stopped(
        author, "POST", r'configmaps .*"instar/part": "anchor"', "deploy", "prod", "--image", author.image
    )
    successor.instar("rollback", "prod", "--take-over")
    before = author.left()
    assert "its lease has ended meanwhile" in woken(process)
    assert author.left() == before
    assert not any("shop-prod-2" in one for one in before)


def test_it_takes_nothing_away_from_what_came_after(author: Author, successor: Successor) -> None:
    process = stopped(author, "DELETE", "httproutes", "destroy", "prod", "--yes")
    successor.instar("destroy", "prod", "--yes", "--take-over")
    successor.instar("deploy", "prod", "--image", author.image)
    before = author.namespace.api.find(ROUTE, author.namespace.name, "shop-prod") or {}
    assert "its lease has ended meanwhile" in woken(process)
    after = author.namespace.api.find(ROUTE, author.namespace.name, "shop-prod") or {}
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert sum(author.weights().values()) > 0
