"""Somebody looks into a pod: it is tainted before, what is shown is recorded, and it alone is replaced."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clusters.api import kubectl
from clusters.layout import layout
from test_kubernetes_members import await_passes, kept, members

from instar.providers.kubernetes.kinds import POD
from instar.providers.kubernetes.names import TAINTED
from instar.terminal.terminal import set_size
from instar.waiting import Deadline, until
from kubernetes_author import MAIN, Author, Requests, authoring

pytestmark = pytest.mark.cluster


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with authoring(tmp_path) as made:
        yield made


def test_a_command_is_run_in_a_tainted_pod_recorded_and_the_pod_replaced(author: Author) -> None:
    author.write(settings="replace_within: 1s")
    author.deploy()
    looked, other = members(author)
    words = ("shell", "prod", looked, "--why", "a look", "--command", "echo hi; touch /tmp/me; exit 3")
    done = author.run(sys.executable, "-c", MAIN, *words)
    assert (done.returncode, done.stdout) == (3, "hi\n"), done.stderr
    pod = author.namespace.api.find(POD, author.namespace.name, looked)
    assert pod is not None and pod["metadata"]["labels"][TAINTED] == "shop-prod-1-1"
    history = [one for one in author.json("history", "prod") if one["kind"] in ("member-taint", "shell", "shell-ended")]
    assert [one["kind"] for one in history] == ["member-taint", "shell", "shell-ended"], "tainted first"
    assert history[1]["detail"]["member"] == looked
    assert [(one["kind"], one["name"]) for one in history[2]["detail"]["differences"]] == [("added", "/tmp/me")]
    assert "hi" in author.instar("replay", "shop-prod-1-1")
    assert f"{looked} is tainted (shell: a look)" in author.instar("status", "prod")
    with Requests(author) as requests:
        await_passes(author, lambda: len(members(author)) == 2 and looked not in members(author), "replaced")
    assert set(requests.answers) == {"1 hello s3cret"}
    assert other in members(author)
    assert f"{looked} was tainted (shell: a look), and is kept as evidence" in author.instar("status", "prod")

    author.instar("taint", "prod", other, "--why", "to see")
    await_passes(author, lambda: other not in members(author) and len(members(author)) == 2, "the other, too")
    done = author.run(
        sys.executable, "-c", MAIN, "shell", "prod", "--isolate", "--why", "a look", "--command", "cat /proc/1/comm"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), "it runs on without traffic"
    assert len(kept(author)) == 3


def test_who_looks_into_a_pod_otherwise_is_found_in_the_audit_log(author: Author) -> None:
    config = author.folder / "config.yaml"
    log = layout().logs / "audit.log"
    config.write_text(f"{config.read_text()}kubernetes: {{audit_log: {log}}}\n")
    author.write(settings="drift: {action: replace}\n    replace_within: 1s")
    author.deploy()
    looked, other = members(author)
    author.instar("drift", "prod")
    author.instar("shell", "prod", other, "--why", "a look", "--command", "true")
    author.instar("drift", "prod")  # who looks by Instar taints first
    words = ("-n", author.namespace.name, "exec", looked, "--", "true")
    done = author.run(*kubectl(layout(), words))
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(author.run(sys.executable, "-c", MAIN, "drift", "prod", "--json").stdout)["findings"]
    assert (found["kind"], found["path"]) == ("process", f"{looked}: looked into"), found
    assert found["observed"].startswith("exec by 'admin' with kubectl/"), found
    await_passes(author, lambda: looked not in members(author) and len(members(author)) == 2, "replaced")
    author.instar("drift", "prod")


class Terminal:
    """A command on a terminal of its own; ``typed`` are keys, ``shown`` all that it has shown."""

    def __init__(self, author: Author, *words: str) -> None:
        self._ours, theirs = pty.openpty()
        set_size(self._ours, 97, 31)
        environ = {**author.namespace.environ, "PYTHONPATH": ":".join(sys.path), "TERM": "vt100"}
        argv = (sys.executable, "-c", MAIN, *words)
        self.process = subprocess.Popen(
            argv, cwd=author.folder, env=environ, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self.shown = ""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def typed(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def await_shown(self, is_so: Callable[[str], bool]) -> None:
        assert until(lambda: is_so(self.shown), Deadline.after(30), every_s=0.1), self.shown

    def resize(self, columns: int, rows: int) -> None:
        set_size(self._ours, columns, rows)

    def end(self) -> int:
        status = self.process.wait(timeout=30)
        self._thread.join()
        os.close(self._ours)
        return status

    def _read(self) -> None:
        while True:
            try:
                select.select([self._ours], [], [])
                piece = os.read(self._ours, 65_536)
            except OSError:
                return
            self.shown += piece.decode("utf-8", "replace")


def test_a_terminal_takes_keys_and_sizes_and_ends_what_it_is_told_to(author: Author) -> None:
    author.write()
    author.deploy()
    terminal = Terminal(author, "shell", "prod", "--why", "a look")
    terminal.await_shown(lambda shown: "$ " in shown or "# " in shown)
    terminal.typed("echo $((6*7)) $TERM; stty size\n")
    terminal.await_shown(lambda shown: "42 vt100" in shown and "31 97" in shown)
    terminal.typed("echo begun $((1+0)); sleep 600\n")
    terminal.await_shown(lambda shown: "begun 1" in shown)
    terminal.typed("\x03")
    terminal.typed("echo over $((1+1))\n")
    terminal.await_shown(lambda shown: "over 2" in shown)
    terminal.typed("exit 5\n")
    assert terminal.end() == 5, terminal.shown
    (opened,) = [one for one in author.json("history", "prod") if one["kind"] == "shell"]
    recording = (author.folder / "recordings" / f"{opened['detail']['recording']}.cast").read_text()
    assert "42 vt100" in recording and json.loads(recording.splitlines()[0])["width"] == 97


NO_SHELL: dict[str, Any] = {"command": ["/bin/httpd", "-f", "-p", "8080", "-h", "/srv"]}


def test_where_the_image_has_no_shell_it_is_said_and_a_toolbox_opens_one_beside_it(author: Author) -> None:
    from kubernetes_namespace import image_without_shell

    author.write()
    author.deploy()
    with_shell = f"{author.namespace.registry}/shop@{author.image}"
    author.image = image_without_shell(author.folder).digest
    author.write(section=f', toolbox: "{with_shell}"', more="", **NO_SHELL)
    author.deploy()
    look = ("shell", "prod", "--why", "a look", "--command", "cat /proc/1/cmdline | tr '\\000' ' '")
    assert "the image has no shell; --toolbox" in author.instar(*look, status=1)
    assert "/bin/httpd -f -p 8080" in author.instar(*look, "--toolbox")
