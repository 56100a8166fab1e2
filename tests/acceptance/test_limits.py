"""Limits for clients, deployed by themselves from the command line."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from typing import Any

import pytest
from project import Project

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="instances are root's")

LIMITS = """\
    requests: {largest_body: 1K, body_within: 20s, rate: {requests: 30, within: 1h}}
    compression: {types: [text/plain]}
"""
PAGE = "/page.txt"


def ask(project: Project, path: str = PAGE, body: bytes | None = None) -> tuple[int, str | None]:
    """Return the status of what is answered, and how it is encoded."""
    request = urllib.request.Request(project.url(path=path), body, {"Accept-Encoding": "gzip"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers["Content-Encoding"]
    except urllib.error.HTTPError as error:
        return error.code, None


def releases(project: Project) -> Any:
    return [(one["number"], one["state"]) for one in project.json("status", "dev")["releases"]]


def test_limits_are_in_force_at_once_and_make_no_release(project: Project) -> None:
    (project.folder / "app/www/page.txt").write_text("as it is\n" * 400)
    project.instar("deploy", "dev")
    project.set_version("2")
    project.instar("deploy", "dev")
    before, instances = releases(project), project.instance_ids()
    assert ask(project) == (200, None)
    assert ask(project, "/cgi-bin/hello", b"x" * 2_000) == (200, None)

    listen = f"    listen: 127.0.0.1:{project.ports['dev']}\n"
    project.edit(listen, listen + LIMITS)
    project.instar("deploy", "dev")
    assert (releases(project), project.instance_ids()) == (before, instances)
    assert ask(project) == (200, "gzip")
    assert ask(project, "/cgi-bin/hello", b"x" * 2_000) == (413, None)
    assert ask(project, "/cgi-bin/hello", b"x" * 1_000) == (200, None)
    assert project.json("drift", "dev")["clean"]

    project.instar("rollback", "dev")
    assert project.get() == "hello from version 1\n"
    assert ask(project) == (200, "gzip"), "limits are the environment's, and stay"
    assert ask(project, "/cgi-bin/hello", b"x" * 2_000) == (413, None)
    assert project.json("drift", "dev")["clean"]
    assert {ask(project)[0] for _ in range(40)} == {200, 429}

    project.instar("rollback", "dev", "--to", "2")
    project.edit(LIMITS, "")
    project.instar("deploy", "dev")
    assert (releases(project), project.instance_ids()) == (before, instances)
    assert {ask(project) for _ in range(40)} == {(200, None)}
    assert ask(project, "/cgi-bin/hello", b"x" * 2_000) == (200, None)
    assert project.json("drift", "dev")["clean"]
    project.instar("history", "--verify")


def test_how_long_a_stream_may_be_silent_is_the_releases(project: Project) -> None:
    """It is about the program, as the other time-outs are: it comes with a release, and goes with the one before."""
    file = project.home / "routers/hello/dev/haproxy.cfg"
    project.instar("deploy", "dev")
    project.edit("  port: 8080\n", "  port: 8080\n  timeouts: {stream: 7m}\n")
    project.instar("deploy", "dev")
    assert [number for number, _ in releases(project)] == [2, 1]
    assert "set-timeout server 420000ms" in file.read_text()
    assert project.json("drift", "dev")["clean"]
    project.instar("rollback", "dev")
    assert "set-timeout" not in file.read_text()
    assert project.json("drift", "dev")["clean"]
