"""An access log as a user has it: asked for, shown by ``instar logs ENV --access``, gone with the environment."""

from __future__ import annotations

import contextlib
import json
import signal
import urllib.request

import pytest
from project import Project, answers, wait_for

pytestmark = pytest.mark.root


def asked(project: Project, path: str) -> int:
    request = urllib.request.Request(project.url(path=path), headers={"Cookie": "session=sesame"})
    with contextlib.closing(urllib.request.urlopen(request, timeout=10)) as answer:
        return int(answer.status)


def test_requests_are_shown_with_what_answered_them_and_without_what_is_secret(project: Project) -> None:
    project.instar("deploy", "dev")
    assert answers(project)
    refused = project.try_instar("logs", "dev", "--access")
    assert (refused.status, "nothing is written down there; it is not asked to" in refused.err) == (1, True)
    assert "add 'access_log: true' under environments.dev, and deploy" in refused.err

    (instance,) = project.instance_ids()
    project.edit("  dev:\n", "  dev:\n    access_log: true\n")
    project.instar("deploy", "dev")
    assert project.instance_ids() == {instance}, "no release is made of it"
    assert "access_log" in project.instar("config", "dev").out
    assert asked(project, "/cgi-bin/hello?token=sesame") == 200

    def shown(*words: str) -> list[dict[str, object]]:
        return [
            json.loads(line) for line in project.instar("logs", "dev", "--access", "--json", *words).out.splitlines()
        ]

    wait_for(lambda: any(one["path"] == "/cgi-bin/hello" for one in shown()), "the request is not in the log")
    (line,) = shown("--grep", "GET [^ ]*/cgi-bin/hello ", "-n", "1")
    known = {"environment": "hello/dev", "client": "127.0.0.1", "status": 200, "instance": instance, "release": 1}
    assert {key: line[key] for key in known} == known
    assert "sesame" not in project.instar("logs", "dev", "--access").out
    assert shown("--release", "1") and shown("--since", "1h") and not shown("--until", "1h") and shown(instance)

    following = project.start("logs", "dev", "--access", "-f", "-n", "1")
    assert following.stdout is not None
    assert "GET 127.0.0.1" in following.stdout.readline()
    assert asked(project, "/cgi-bin/hello?token=sesame") == 200
    assert "GET 127.0.0.1" in following.stdout.readline()
    following.send_signal(signal.SIGINT)
    following.wait(20)

    project.instar("destroy", "dev", "--yes")
    assert not list(project.home.glob("routers/*/*/access*"))
