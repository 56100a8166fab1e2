"""Taint, shell and replay as a user has them: what was opened is written down, recorded and replaced."""

from __future__ import annotations

import contextlib
import json
import signal
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import load
import pytest
from project import Project, answers, end, wait_for
from typist import at_terminal

pytestmark = pytest.mark.root


@pytest.fixture
def two(project: Project) -> Project:
    """Dev with two instances of release 1."""
    project.edit("config: {GREETING: hello}", "instances: 2\n    config: {GREETING: hello}")
    project.instar("deploy", "dev")
    return project


def events(project: Project, kind: str) -> list[Mapping[str, Any]]:
    """Return the details of dev's events of a kind, oldest first."""
    return [event["detail"] for event in project.json("history", "dev") if event["kind"] == kind]


def instances(project: Project) -> dict[str, Mapping[str, Any]]:
    status = project.json("status", "dev")
    return {one["id"]: one for release in status["releases"] for one in release["instances"]}


def test_a_tainted_instance_is_shown_and_replaced_the_new_one_first(two: Project) -> None:
    told = two.json("taint", "dev", "hello-dev-1-1", "--why", "its cache is\nodd")
    assert (told["service"], told["environment"], told["release"]) == ("hello", "dev", 1)
    assert told["instance"] == "hello-dev-1-1" and told["agent"] is None
    assert told["taint"].keys() == {"kind", "why", "due_at", "isolated"}
    assert told["taint"]["why"] == "its cache is odd" and not told["taint"]["isolated"]
    seen = instances(two)
    assert seen["hello-dev-1-1"]["taint"] == told["taint"] and seen["hello-dev-1-2"]["taint"] is None
    shown = two.instar("status", "dev").out
    assert "running, tainted" in shown and "hello-dev-1-1 is tainted (person: its cache is odd)" in shown
    assert "instar agent --once" in shown
    assert "instar agent --once" in two.instar("taint", "dev", "hello-dev-1-1", "--why", "again").out
    two.instar("agent", "--once")
    assert answers(two)
    two.instar("agent", "--once")
    assert two.instance_ids() == {"hello-dev-1-2", "hello-dev-1-3"}
    kinds = [(event["kind"], event["detail"]) for event in two.json("history", "dev")]
    launched = next(i for i, (kind, detail) in enumerate(kinds) if detail.get("replacing") == "tainted")
    gone = next(i for i, (kind, detail) in enumerate(kinds) if kind == "destroyed")
    assert launched < gone
    assert "hello-dev-1-1 (by hand, due " in two.instar("history", "dev").out


@pytest.mark.thorough
def test_what_cannot_be_tainted(two: Project) -> None:
    def refused(*words: str) -> tuple[int, str]:
        result = two.try_instar("taint", *words)
        return result.status, result.err

    status, err = refused("staging", "hello-staging-1-1", "--why", "x")
    assert status == 1 and "cannot find" in err
    status, err = refused("dev", "hello-dev-9-9", "--why", "x")
    assert status == 1 and "never had such an instance" in err and "hello-dev-1-1, hello-dev-1-2" in err
    status, err = refused("dev", "hello-dev-1-1", "--why", "  ")
    assert status == 64 and "without a reason" in err
    status, err = refused("dev", "hello-dev-1-1")
    assert status == 64 and "--why" in err
    two.instar("deploy", "production", "--image", "hello", "--break-promotion")
    status, err = refused("dev", "hello-production-1-1", "--why", "x")
    assert status == 1 and "it is an instance of 'hello/production'" in err
    two.instar("taint", "dev", "hello-dev-1-1", "--why", "to be gone")
    two.instar("agent", "--once")
    two.instar("agent", "--once")
    status, err = refused("dev", "hello-dev-1-1", "--why", "x")
    assert status == 1 and "it was destroyed" in err
    assert len(events(two, "taint")) == 1


def test_a_command_is_tainted_before_it_runs_and_tells_what_it_changed(two: Project) -> None:
    script = (
        "echo out; echo err >&2; echo x >/tmp/left; cat /run/own 2>/dev/null; echo y >/run/own; "
        "(busybox sleep 300 >/dev/null 2>&1 &) ; exit 69"
    )
    result = two.try_instar("shell", "dev", "--why", "to see", "--command", script)
    assert (result.status, result.out) == (69, "out\n")
    assert "\nerr\n" in result.err and "oldest of release 1" in result.err
    assert "added    /tmp/left  2 B, mode 644" in result.err and "process  busybox sleep 300" in result.err
    kinds = [event["kind"] for event in two.json("history", "dev")]
    assert kinds[-3:] == ["taint", "shell", "shell-ended"]
    (taint,), (shell,), (ended,) = (events(two, kind) for kind in kinds[-3:])
    name = taint["instance"]
    assert taint["taint"] == "shell" and taint["why"] == "to see" and taint["command"] == script
    assert shell["recording"] == taint["recording"] == ended["recording"] and shell["why"] == "to see"
    assert ended["exit_status"] == 69 and ended["count"] == 3 and ended["whole"] and ended["cause"] is None
    assert {(one["kind"], one["name"]) for one in ended["differences"]} == {
        ("added", "/tmp/left"),
        ("added", "/run/own"),
        ("started", "busybox sleep 300"),
    }
    assert "exit status 69" in two.instar("history", "dev").out
    (file,) = (two.home / "recordings").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and file.name.startswith(f"{name}.")
    assert sorted(two.instar("replay", name).out.splitlines()) == ["err", "out"]  # two streams, in any order
    again = two.try_instar("shell", "dev", name, "--why", "again", "--command", "rm /tmp/left; echo z >>/run/own")
    assert again.status == 0
    assert "removed  /tmp/left" in again.err and "changed  /run/own  2 B → 4 B" in again.err
    assert "2 differences" in again.err


def test_somebody_at_a_terminal(two: Project) -> None:
    with at_terminal(two, "shell", "dev", "hello-dev-1-2") as typist:
        typist.until("why: ")
        typist.type("  \nit is slow\n")
        before = typist.settings()
        typist.until("hello-dev-1-2 is replaced in 15 min")
        typist.until("$ ")
        assert typist.settings() != before, "raw"
        typist.type('echo "$TERM"; busybox stty size\n')
        typist.until("xterm-256color")
        typist.until("30 90")
        typist.resize(120, 40)
        typist.type("busybox stty -echo; read password; busybox stty echo; busybox stty size\n")
        time.sleep(0.3)
        typist.type("correct horse\n")
        typist.until("40 120")
        two.instar("status", "dev"), two.instar("agent", "--once")
        assert two.try_instar("deploy", "dev").status == 0, "nobody holds the environment"
        typist.type("echo $((6 * 7)) >/tmp/answer; exit 3\n")
        assert typist.end() == 3
        assert "added    /tmp/answer" in typist.shown
        assert typist.settings() == before
    assert (taint := instances(two)["hello-dev-1-2"]["taint"])["why"] == "it is slow" and not taint["isolated"]
    (file,) = (two.home / "recordings").iterdir()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert lines[0]["version"] == 2 and (lines[0]["width"], lines[0]["height"]) == (90, 30)
    assert lines[0]["env"]["TERM"] == "xterm-256color" and "it is slow" in lines[0]["title"]
    assert [line[1:] for line in lines[1:] if line[1] == "r"] == [["r", "120x40"]]
    assert {line[1] for line in lines[1:]} == {"o", "r"}
    assert "correct horse" not in file.read_text(), "what is typed is not recorded, and there was no echo"
    with at_terminal(two, "replay", "hello-dev-1-2", "--speed", "20") as typist:
        assert typist.end() == 0
        assert "40 120" in typist.shown


@pytest.mark.thorough
def test_a_terminal_that_goes_away_takes_its_shell_along(two: Project) -> None:
    with at_terminal(two, "shell", "dev", "hello-dev-1-1", "--why", "to be killed") as typist:
        typist.until("$ ")
        before = _processes(two, "hello-dev-1-1")
        typist.process.kill()
        typist.process.wait()
    wait_for(lambda: len(_processes(two, "hello-dev-1-1")) < len(before), "the shell is still there")
    with at_terminal(two, "shell", "dev", "hello-dev-1-1", "--why", "to be ended") as typist:
        typist.until("$ ")
        typist.process.terminate()
        assert typist.end() == 130
    assert events(two, "shell-ended")[-1]["cause"] == "interrupted"
    assert len(_processes(two, "hello-dev-1-1")) < len(before)


def _processes(project: Project, name: str) -> list[str]:
    """Return the processes of an instance, as the machine shows them."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"/{name}\n" in (entry / "cgroup").read_text() and _is_of(project, entry):
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def _is_of(project: Project, entry: Path) -> bool:
    return f"instar-{(project.home / 'id').read_text().strip()}/" in (entry / "cgroup").read_text()


@pytest.mark.thorough
def test_a_command_that_is_interrupted_ends_inside_too(two: Project) -> None:
    command = two.start("shell", "dev", "hello-dev-1-1", "--why", "x", "--command", "echo on; busybox sleep 400")
    assert command.stdout is not None
    assert command.stdout.readline() == "on\n"
    assert end(command, signal.SIGINT).status == 130
    assert events(two, "shell-ended")[-1]["cause"] == "interrupted"
    assert not [line for line in _processes(two, "hello-dev-1-1") if "sleep 400" in line]


def test_isolated_it_has_no_traffic_and_no_request_is_lost(two: Project) -> None:
    two.edit("instances: 2", "replace_within: 8s\n    instances: 2")
    two.instar("deploy", "dev")
    with load.running(two.url(), "--rate", "50", "--connections", "4") as traffic:
        with at_terminal(two, "shell", "dev", "hello-dev-1-1", "--isolate", "--why", "to look in peace") as typist:
            typist.until("has no traffic")
            typist.until("$ ")
            assert two.instance_ids() == {"hello-dev-1-1", "hello-dev-1-2", "hello-dev-1-3"}
            seen = instances(two)["hello-dev-1-1"]
            assert seen["state"] == "running" and seen["taint"]["isolated"]
            two.instar("agent", "--once")
            assert "hello-dev-1-1" in two.instance_ids(), "it is kept until it is due"
            typist.type("exit\n")
            assert typist.end() == 0
        wait_for(lambda: datetime.fromisoformat(seen["taint"]["due_at"]) < datetime.now(UTC), "", timeout_s=30)
        two.instar("agent", "--once")
        two.instar("agent", "--once")
        report = traffic.stop()
    assert report["failed"] == 0, report
    assert two.instance_ids() == {"hello-dev-1-2", "hello-dev-1-3"}
    assert "without traffic until then" not in two.instar("status", "dev").out


@pytest.mark.thorough
def test_what_cannot_be_isolated_is_not_opened(project: Project) -> None:
    project.edit("  workdir: /srv\n", "  workdir: /srv\n  volumes: [{name: data, path: /data}]\n")
    project.edit("instances: 2", "instances: 1")
    project.instar("deploy", "dev")
    refused = project.try_instar("shell", "dev", "--isolate", "--why", "x", "--command", "true")
    assert refused.status == 1 and "it has an exclusive volume" in refused.err and "--isolate away" in refused.err
    assert not events(project, "taint") and not list(project.home.glob("recordings/*"))
    written = project.try_instar("shell", "dev", "--why", "x", "--command", "echo 1 >/data/one")
    assert written.status == 0 and "added    /data/one" in written.err


def test_without_a_terminal_a_reason_or_an_instance(two: Project) -> None:
    def refused(*words: str) -> tuple[int, str]:
        result = two.try_instar("shell", *words)
        return result.status, result.err

    status, err = refused("dev", "--why", "x")
    assert status == 64 and "not a terminal" in err and "--command" in err
    status, err = refused("dev", "--command", "true")
    assert status == 64 and "--why" in err
    status, err = refused("dev", "--why", "x", "--command", " ")
    assert status == 64 and "it is empty" in err
    status, err = refused("nowhere", "--why", "x", "--command", "true")
    assert status == 1 and "cannot find" in err
    status, err = refused("dev", "hello-dev-4-1", "--why", "x", "--command", "true")
    assert status == 1 and "never had such an instance" in err
    assert not events(two, "taint")


@contextlib.contextmanager
def small_disk(project: Project, size_bytes: int) -> Iterator[Path]:
    """Have recordings go to a disk of so many bytes."""
    folder = project.home / "recordings"
    folder.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()


@pytest.mark.thorough
def test_a_full_disk_refuses_the_shell_and_nothing_is_tainted(two: Project) -> None:
    with small_disk(two, 8192) as folder:
        (folder / "filled").write_bytes(bytes(8192))
        refused = two.try_instar("shell", "dev", "--why", "x", "--command", "touch /tmp/there")
        assert refused.status == 1 and "No space left on device" in refused.err and "df -h" in refused.err
        assert [path.name for path in folder.iterdir()] == ["filled"]
        assert not events(two, "taint") and not events(two, "shell")


@pytest.mark.thorough
def test_a_disk_that_fills_up_ends_the_shell(two: Project) -> None:
    with small_disk(two, 8192) as folder:
        words = ("shell", "dev", "hello-dev-1-1", "--why", "x")
        ended = two.try_instar(*words, "--command", "while true; do echo line after line; busybox usleep 999; done")
        assert ended.status == 1 and "cannot record to" in ended.err and "No space left" in ended.err
        assert ended.out.startswith("line after line\n") and len(ended.out) < 8192
        assert "No space left" in events(two, "shell-ended")[-1]["cause"]
        assert not [line for line in _processes(two, "hello-dev-1-1") if "line after line" in line]
        shown = two.instar("replay", "hello-dev-1-1").out
        assert shown.startswith("line after line\n"), "it is played up to where it was cut off"
        next(folder.iterdir()).unlink()
        with at_terminal(two, *words) as typist:
            typist.until("$ ")
            before = typist.settings()
            typist.type("while true; do echo line after line; done\n")
            assert typist.end() == 1
            assert "No space left" in typist.shown and typist.settings() != before


@pytest.mark.thorough
def test_the_toolbox_is_shown_and_taken_away(two: Project) -> None:
    script = "echo $0; ls -d /tmp/.instar*; type awk >/dev/null || true; awk 'BEGIN {print 6 * 7}'; id -u"
    result = two.try_instar("shell", "dev", "hello-dev-1-1", "--toolbox", "--why", "x", "--command", script)
    assert result.status == 0, result.err
    assert "42\n10001\n" in result.out and "/tmp/.instar-toolbox-" in result.out
    assert "nothing differs" in result.err
    assert events(two, "shell")[-1]["toolbox"]
    command = two.start("shell", "dev", "hello-dev-1-1", "--toolbox", "--why", "x", "--command", "echo on; sleep 500")
    assert command.stdout is not None
    assert command.stdout.readline() == "on\n"
    end(command, signal.SIGKILL)
    wait_for(lambda: not [line for line in _processes(two, "hello-dev-1-1") if "sleep" in line], "it goes on")
    result = two.try_instar("shell", "dev", "hello-dev-1-1", "--why", "x", "--command", "echo /tmp/.instar*")
    assert result.out == "/tmp/.instar*\n", "nothing is left of it"


def test_recordings_are_listed_played_and_go_with_the_logs(two: Project) -> None:
    missing = two.try_instar("replay", "dev")
    assert missing.status == 1 and "no shell was opened there" in missing.err
    unknown = two.try_instar("replay", "hello-dev-1-9")
    assert unknown.status == 1 and "cannot find a recording of 'hello-dev-1-9'" in unknown.err
    for word in ("one", "two"):
        command = f"printf '\\033[31m{word}\\033[0m\\n'"
        two.instar("shell", "dev", "hello-dev-1-1", "--why", f"for {word}", "--command", command)
    listed = two.json("replay", "dev")
    assert [one["title"] for one in listed] == ["hello-dev-1-1 by root: for one", "hello-dev-1-1 by root: for two"]
    assert two.instar("replay", "hello-dev-1-1").out == "two\n", "the newest, as text"
    assert two.instar("replay", listed[0]["recording"]).out == "one\n"
    assert "for two" in two.instar("replay", "dev", "--list").out
    assert two.try_instar("replay", "dev", "--speed", "nan").status == 0, "a list has no speed"
    file = Path(listed[1]["file"])
    file.write_text(file.read_text()[:-8])
    assert two.instar("replay", "hello-dev-1-1").out == ""
    file.write_text("no recording\n")
    damaged = two.try_instar("replay", "hello-dev-1-1")
    assert damaged.status == 1 and "does not begin as a recording does" in damaged.err
    assert "it is not a recording" in two.instar("replay", "dev").out
    assert two.json("gc")["recordings"] == []
    two.instar("destroy", "dev", "--yes")
    assert len(two.json("replay", "hello/dev")) == 2, "it is not forgotten with what it was of"
    names = sorted(one["recording"] for one in listed)
    assert sorted(two.json("gc", "--dry-run")["recordings"]) == names and file.exists()
    assert sorted(two.json("gc")["recordings"]) == names and not file.exists()


@pytest.mark.thorough
def test_where_no_other_gets_well_it_serves_on_and_no_shell_is_opened(project: Project) -> None:
    project.edit("  workdir: /srv\n", "  workdir: /srv\n  volumes: [{name: data, path: /data, access: shared}]\n")
    serve = (project.folder / "app/serve").read_text()
    (project.folder / "app/serve").write_text(serve.replace('case "$MODE"', '[ -e /data/ill ] && exit 1\ncase "$MODE"'))
    project.instar("deploy", "dev")
    project.instar("shell", "dev", "--why", "to prevent others", "--command", "echo >/data/ill")
    refused = project.try_instar("shell", "dev", "--isolate", "--why", "x", "--command", "echo in")
    assert refused.status == 1 and refused.out == ""
    assert "no other instance could serve in its place" in refused.err and "no shell was opened" in refused.err
    assert answers(project)
    assert len(events(project, "shell")) == 1 and events(project, "taint")[-1]["isolated"]


@pytest.mark.thorough
def test_an_instance_that_is_replaced_while_somebody_is_in_it(project: Project) -> None:
    project.instar("deploy", "dev")
    with at_terminal(project, "shell", "dev", "--why", "to see it go") as typist:
        typist.until("$ ")
        project.instar("taint", "dev", "hello-dev-1-1", "--why", "at once")
        project.instar("agent", "--once")
        project.instar("agent", "--once")
        assert typist.end() == 137
        assert "the instance has ended" in typist.shown
    assert project.instance_ids() == {"hello-dev-1-2"} and answers(project)


@pytest.mark.thorough
def test_the_machine_says_whether_it_has_a_toolbox(project: Project) -> None:
    (found,) = [one for one in project.json("doctor")["components"] if one["name"] == "busybox, static"]
    assert found["found"] and not found["required"] and found["get"] == "apt-get install busybox-static"


@pytest.mark.thorough
def test_a_shell_is_known_for_one_and_no_stranger(two: Project) -> None:
    shell = two.start("shell", "dev", "--why", "to see", "--command", "sleep 4; exit 0")
    wait_for(lambda: bool(events(two, "shell")), "it never began")
    seen = two.try_instar("drift", "dev", "--json")
    assert shell.poll() is None, "it was still there"
    shell.communicate(timeout=20)
    assert seen.json["findings"] == [] and seen.status == 0


SPY = """#!/bin/sh
# Reads, as the service's own user, whatever terminal it can find inside.
busybox httpd -f -p 8080 -h /srv/www &
while true; do
  for one in /dev/pts/[0-9]* /dev/tty /dev/console /proc/[0-9]*/fd/[012]; do
    [ -c "$one" ] && timeout 0.3 cat "$one" >>/tmp/heard 2>/dev/null
  done
  busybox usleep 50000
done
"""


@pytest.mark.thorough
def test_who_is_inside_reads_nothing_of_what_is_typed(project: Project) -> None:
    (project.folder / "app/serve").write_text(SPY)
    project.instar("deploy", "dev")
    with at_terminal(project, "shell", "dev", "--why", "to type a password") as typist:
        typist.until("$ ")
        for number in range(20):
            typist.type(f": pass{number}word\n")
            typist.until("$ ")
            time.sleep(0.1)
        typist.type("sleep 100\n")
        time.sleep(0.5)
        typist.interrupt("$ ")
        typist.type("cat /tmp/heard; echo $(ls /dev/pts); exit 5\n")
        assert typist.end() == 5
    heard = typist.shown[typist.shown.rindex("exit 5") :]
    assert "word" not in heard and "ptmx" in heard and "0 ptmx" not in heard


@pytest.mark.thorough
def test_what_a_command_prints_steers_no_terminal_and_is_kept_as_it_is_for_a_pipe(two: Project) -> None:
    words = ("shell", "dev", "hello-dev-1-1", "--why", "x", "--command")
    script = r"printf 'a\033]0;title\007\033[6n\033[31mred\033[?1000h\033]52;c;eA==\007z\n'"
    piped = two.instar(*words, script)
    assert piped.out == "a\x1b]0;title\x07\x1b[6n\x1b[31mred\x1b[?1000h\x1b]52;c;eA==\x07z\n"
    with at_terminal(two, *words, script) as typist:
        typist.until("z")
        assert typist.end() == 0
    assert "a\x1b[31mredz" in typist.shown
    assert not {"\x07", "\x1b[6n", "\x1b]"} & {one for one in ("\x07", "\x1b[6n", "\x1b]") if one in typist.shown}
