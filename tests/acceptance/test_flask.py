"""The example flask: gunicorn behind a canary, of which no request is lost, and a bad release that is taken back."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import load
import pytest
from leftovers import remove_state
from project import Project, free_port

pytestmark = [pytest.mark.root, pytest.mark.thorough]

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/flask"
STEADY = ("--rate", "100", "--connections", "6", "--closing", "3")
SHORT = "pause: 30s, analysis: {min_requests: 50}"


@pytest.fixture
def flask(tmp_path: Path) -> Iterator[Project]:
    shutil.copytree(EXAMPLE, tmp_path / "flask")
    made = Project(
        folder=tmp_path / "flask", home=tmp_path / "home", ports={"dev": free_port(), "production": free_port()}
    )
    for name, usual in (("dev", "8082"), ("production", "8089")):
        made.edit(f"127.0.0.1:{usual}", f"127.0.0.1:{made.ports[name]}")
    made.edit(SHORT, "pause: 1s, analysis: {min_requests: 20}")
    yield made
    made.destroy_all()
    remove_state(made.home)


def promote(flask: Project, old: str, new: str) -> None:
    """Change the application, and bring that to dev: then it can be promoted."""
    flask.edit(old, new, "app/application.py")
    flask.instar("deploy", "dev")


def test_a_canary_over_gunicorn_loses_nothing_and_takes_a_bad_release_back(flask: Project) -> None:
    flask.instar("deploy", "dev", timeout_s=300)
    flask.instar("promote", "dev", "production")
    promote(flask, "from release", "from the new release")
    with load.running(flask.url("production", "/"), *STEADY) as traffic:
        done = flask.json("promote", "dev", "production")
        assert (done["outcome"], done["release"]) == ("done", 2)
        report = traffic.stop()
    assert report["failed"] == 0, report
    assert flask.get("production", "/") == "good day from the new release 2\n"
    judged = [event["detail"] for event in flask.json("history", "production") if event["kind"] == "verdict"]
    assert judged, "each step was judged by its figures"
    promote(flask, "    return f", "    return 1 / 0, f")
    with load.running(flask.url("production", "/"), *STEADY) as traffic:
        undone = flask.try_instar("promote", "dev", "production")
        assert undone.status == 1 and "failed" in undone.err and "production runs release 2 again" in undone.err
        bad = traffic.stop()
    assert set(bad["reasons"]) == {"500"} and bad["failed"] < bad["requests"] / 4, bad
    assert "ZeroDivisionError" in flask.instar("logs", "production", "--release", "3").out
    with load.running(flask.url("production", "/"), *STEADY) as traffic:
        assert flask.json("rollback", "production")["release"] == 1
        report = traffic.stop()
    assert report["failed"] == 0, report
    assert flask.get("production", "/") == "good day from release 1\n"
    assert flask.instar("drift", "production").status == 0
