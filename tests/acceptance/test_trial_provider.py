"""A provider that Instar does not know: one folder, one entry point, and a user without root deploys with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from project import free_port

pytestmark = pytest.mark.root  # to become somebody who is not

NOBODY = 65534
TRIAL = Path(__file__).parents[1] / "trial_provider"
MAIN = "import sys; from instar.cli.main import main; sys.exit(main())"
PUT = """
import sys
from pathlib import Path
from instar.model.image import ImageConfig
from instar.store import Store
store, tree = Store(Path(sys.argv[1]) / "store"), Path(sys.argv[2])
for word in ("one", "two"):
    (tree / "word").write_text(word)
    layer = store.add_layer(tree, step="files", epoch=1)
    print(store.add_image(ImageConfig(architecture="amd64", user="1:1", command=("x",)), [layer], created=1).digest)
"""
SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"release {os.environ['RELEASE']} {os.environ['GREETING']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words): pass
print("serving", flush=True)
http.server.ThreadingHTTPServer((os.environ["ADDRESS"], int(os.environ["PORT"])), Handler).serve_forever()
"""
DEFINITION = """\
name: shop
image: {{base: debian:bookworm}}
service:
  command: [python3, {server}]
  port: 8080
  health: {{path: /, interval: 100ms}}
  stop: {{drain: 200ms, grace: 2s}}
environments:
  dev:
    provider: trial
    trial: {{most: 3}}
    listen: 127.0.0.1:{port}
    instances: {instances}
    config: {{GREETING: {greeting}}}
  production:
    provider: trial
    listen: 127.0.0.1:{other}
    promote_from: dev
    config: {{GREETING: {greeting}}}
    rollout: {{strategy: canary, steps: [50], pause: 300ms}}
"""


class User:
    """Somebody without root, with a folder of their own and the trial provider on their path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.other = free_port(), free_port()
        self._words = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        if subprocess.run([*self._words, "test", "-x", sys.prefix], check=False).returncode != 0:
            # the clone lies where only root may read: let the program itself be read, and nothing be written
            self._words += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        (folder / "server.py").write_text(SERVER)

    def python(self, code: str, *words: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "PYTHONPATH": str(TRIAL)}
        command = [*self._words, sys.executable, "-B", "-c", code, *words]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def instar(self, *words: str, status: int = 0) -> str:
        done = self.python(MAIN, *words)
        assert done.returncode == status, (words, done.stdout, done.stderr)
        return done.stdout if status == 0 else done.stderr

    def define(self, greeting: str, instances: int = 2) -> None:
        server = self.folder / "server.py"
        text = DEFINITION.format(
            server=server, port=self.port, other=self.other, greeting=greeting, instances=instances
        )
        (self.folder / "instar.yaml").write_text(text)

    def ask(self, port: int | None = None) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port or self.port}/", timeout=5) as answer:
            return str(answer.read().decode())


@pytest.fixture
def user() -> Iterator[User]:
    with tempfile.TemporaryDirectory(prefix="instar-user-") as name:
        os.chown(name, NOBODY, NOBODY)
        found = User(Path(name))
        try:
            yield found
        finally:
            for environment in ("shop/dev", "shop/production"):
                found.python(MAIN, "destroy", environment, "--yes")


class Asking:
    """Asks again and again, and keeps what was answered and what was not."""

    def __init__(self, user: User, port: int | None = None) -> None:
        self._user, self._port, self._over = user, port, threading.Event()
        self.answers: set[str] = set()
        self.failed: list[str] = []
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._over.wait(0.01):
            try:
                self.answers.add(self._user.ask(self._port))
            except OSError as error:
                self.failed.append(str(error))


def status(user: User) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(user.instar("status", "shop/dev", "--json"))
    return found


def test_a_user_deploys_rolls_back_and_destroys(user: User) -> None:
    tree = user.folder / "tree"
    tree.mkdir()
    os.chown(tree, NOBODY, NOBODY)
    home = user.folder / ".local/state/instar"
    one, two = user.python(PUT, str(home), str(tree)).stdout.split()

    user.define("hello")
    first = json.loads(user.instar("deploy", "dev", "--image", one, "--json"))
    assert (first["release"], first["outcome"]) == (1, "done")
    assert user.ask() == "release 1 hello"
    with Asking(user) as asking:
        user.define("welcome")
        assert json.loads(user.instar("deploy", "dev", "--image", two, "--json"))["previous"] == 1
        assert user.ask() == "release 2 welcome"
        assert json.loads(user.instar("rollback", "dev", "--json"))["release"] == 1
        assert user.ask() == "release 1 hello"
    assert asking.answers == {"release 1 hello", "release 2 welcome"} and not asking.failed

    found = status(user)
    assert (found["active"] == 1 and [one["state"] for one in found["releases"]] == ["hot", "active"][::-1]) or found
    (active,) = [release for release in found["releases"] if release["number"] == 1]
    assert active["weight"] == 100 and all(item["healthy"] for item in active["instances"])
    assert "serving" in user.instar("logs", "dev")
    assert "deploy" in user.instar("history", "dev") and "the chains hold" in user.instar("history", "--verify")

    processes = home / "trial/instances"  # of the trial provider's own
    pid = int((processes / active["instances"][0]["id"] / "pid").read_text().split()[0])
    os.kill(pid, 9)
    user.instar("agent", "--once")
    assert user.ask() == "release 1 hello"
    assert all(item["healthy"] for one in status(user)["releases"] if one["number"] == 1 for item in one["instances"])

    user.instar("destroy", "shop/dev", "--yes")
    deadline = time.monotonic() + 10
    while any(processes.iterdir()):
        assert time.monotonic() < deadline, list(processes.iterdir())
        time.sleep(0.05)
    with pytest.raises(OSError, match="refused"):
        user.ask()


def test_a_user_promotes_what_runs_share_by_share(user: User) -> None:
    tree = user.folder / "tree"
    tree.mkdir()
    os.chown(tree, NOBODY, NOBODY)
    images = user.python(PUT, str(user.folder / ".local/state/instar"), str(tree)).stdout.split()
    for number, image in enumerate(images, 1):
        user.define(f"greeting-{number}")
        assert "release" in user.python(MAIN, "deploy", "dev", "--image", image, "--plan").stdout
        user.instar("deploy", "dev", "--image", image)
        assert user.python(MAIN, "promote", "dev", "production", "--plan").returncode == 2, "it would do something"
        with Asking(user, user.other) as asking:
            done = json.loads(user.instar("promote", "dev", "production", "--json"))
        assert (done["release"], done["outcome"]) == (number, "done")
        assert user.ask(user.other) == f"release {number} greeting-{number}"
        if number == 2:
            assert asking.answers == {"release 1 greeting-1", "release 2 greeting-2"} and not asking.failed
    assert user.python(MAIN, "promote", "dev", "production", "--plan").returncode == 0, "nothing is left to be done"
    user.instar("pin", "production", "1")
    assert "pinned" in user.instar("status", "shop/production")
    user.instar("gc")


def test_what_it_cannot_do_is_one_clear_sentence(user: User) -> None:
    tree = user.folder / "tree"
    tree.mkdir()
    os.chown(tree, NOBODY, NOBODY)
    one, _ = user.python(PUT, str(user.folder / ".local/state/instar"), str(tree)).stdout.split()
    user.define("hello", instances=4)
    for verb in (("validate",), ("deploy", "dev", "--image", one, "--plan"), ("deploy", "dev", "--image", one)):
        told = user.instar(*verb, status=1)
        assert "instar.yaml:13:16: environments.dev.instances: it runs 4 instances, and 'trial.most' is 3" in told
    text = (user.folder / "instar.yaml").read_text()
    (user.folder / "instar.yaml").write_text(text.replace("most", "moste"))
    told = user.instar("validate", status=1)
    assert "instar.yaml:11:13: environments.dev.trial: unknown key 'moste'; did you mean 'most'?" in told
    user.define("hello")
    user.instar("deploy", "dev", "--image", one)
    told = user.instar("shell", "dev", "--why", "to look", "--command", "true", status=1)
    assert "cannot open a shell in 'shop-dev-1-1': its provider does not do that\n" in told


def test_it_is_small() -> None:
    """Three hundred lines, blank ones aside, are enough for a provider."""
    lines = [line for file in TRIAL.glob("instar_trial/*.py") for line in file.read_text().splitlines() if line.strip()]
    assert len(lines) <= 300
