"""Logs are shipped by the agent as the machine's own file says, whatever becomes of the agent and of where they go."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from project import Project, answers, end, wait_for

pytestmark = pytest.mark.root


@pytest.fixture
def asked(project: Project) -> Project:
    """A project whose requests are written down."""
    project.edit("  dev:\n", "  dev:\n    access_log: true\n")
    project.instar("deploy", "dev")
    assert answers(project)
    return project


@contextlib.contextmanager
def agent(project: Project) -> Iterator[tuple[subprocess.Popen[str], Iterator[str]]]:
    """An agent that has begun, and what it logs."""
    process = project.start("agent", "--check", "0.5", "--log-format", "json")
    assert process.stdout is not None
    said = list[str]()
    while not any('"what": "begun"' in line for line in said):
        said.append(process.stdout.readline())
    try:
        yield process, itertools.chain(said, process.stdout)
    finally:
        if process.poll() is None:
            assert end(process, signal.SIGTERM).status == 0


def ship(project: Project, how: str) -> None:
    (project.home / "config.yaml").write_text(f"logs: {{ship: {how}}}\n")


def ask(project: Project, number: int) -> None:
    with urllib.request.urlopen(project.url(path=f"/cgi-bin/hello/{number}?token=sesame"), timeout=10) as answer:
        assert answer.status == 200


def records(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


def paths(data: bytes) -> set[str]:
    return {one["request"]["path"] for one in records(data) if one.get("request")}


def test_every_line_is_shipped_though_the_agent_is_killed_again_and_again(asked: Project, tmp_path: Path) -> None:
    out = tmp_path / "shipped.jsonl"
    ship(asked, f"{{file: {out}}}")
    wanted = set[str]()
    for turn in range(4):
        with agent(asked) as (process, _):
            for number in range(turn * 20, turn * 20 + 20):
                ask(asked, number)
                wanted.add(f"/cgi-bin/hello/{number}")
            some = f"/cgi-bin/hello/{turn * 20}"
            wait_for(lambda some=some: out.exists() and some in paths(out.read_bytes()), "nothing is shipped")  # type: ignore[misc]
            process.kill()
            process.communicate()
    with agent(asked):
        wait_for(lambda: wanted <= paths(out.read_bytes()), "some requests were not shipped")
        wait_for(lambda: b"serving as well" in out.read_bytes(), "what the instance printed was not shipped")
    data = out.read_bytes()
    assert b"sesame" not in data
    printed = next(one for one in records(data) if one["message"] == "serving as well")
    (instance,) = asked.instance_ids()
    known = {"service": "hello", "environment": "dev", "release": 1, "instance": instance, "stream": "stdout"}
    assert {key: printed[key] for key in known} == known
    asked_for = [one["request"]["path"] for one in records(data) if one.get("request")]
    assert len([path for path in asked_for if path in wanted]) <= len(wanted) + 4 * 20, "little is repeated"


def test_a_sink_that_is_away_hangs_or_fails_costs_no_request_and_is_told_of(asked: Project, tmp_path: Path) -> None:
    where = tmp_path / "sink.sock"
    ship(asked, f'{{socket: "unix:{where}"}}')
    refused = asked.try_instar("doctor")
    assert f"cannot send to 'unix:{where}': No such file or directory" in refused.out
    listening = socket.socket(socket.AF_UNIX)
    with agent(asked) as (_, said), contextlib.closing(listening):
        line = next(line for line in said if '"what": "logs"' in line)
        assert "logs are not shipped, and wait in their files: cannot send to" in line
        ask(asked, 1)
        listening.bind(str(where))
        listening.listen()
        taken, _ = listening.accept()  # and reads nothing
        ask(asked, 2)
        received = b""
        taken.settimeout(30)
        while b"/cgi-bin\\/hello\\/2" not in received and b"/cgi-bin/hello/2" not in received:
            received += taken.recv(65_536)
        assert {"/cgi-bin/hello/1", "/cgi-bin/hello/2"} <= paths(received)
        taken.close()
    told = asked.instar("doctor").out
    assert "logs.ship" in told


def test_a_command_has_taken_what_it_ends_with_0_for(asked: Project, tmp_path: Path) -> None:
    out, script = tmp_path / "got", tmp_path / "take"
    script.write_text(f"#!/bin/sh\ncat >{out}.new && [ -e {out}.well ] && cat {out}.new >>{out}\n")
    script.chmod(0o755)
    ship(asked, f"{{command: [{script}], what: access}}")
    with agent(asked):
        ask(asked, 1)
        wait_for(Path(f"{out}.new").exists, "the command is not run")
        assert not out.exists()
        Path(f"{out}.well").touch()
        wait_for(
            lambda: out.exists() and "/cgi-bin/hello/1" in paths(out.read_bytes()), "what failed is not sent again"
        )
        assert all(one["stream"] == "access" for one in records(out.read_bytes()))
    script.unlink()
    assert f"there is no program '{script}' that can be run" in asked.try_instar("doctor").out
