"""Services that are never at rest, and checks of them again and again.

All of them stand on one image, with Debian's Python and nginx and BusyBox in it: it is baked once.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from project import Project, free_port

from instar.drift.check import Checked
from instar.model.progress import silent
from instar.model.release import EnvironmentId
from instar.operations.drift import drift
from instar.workspace import MachineWorkspace

DEFINITION = """\
name: NAME

image:
  base: debian:bookworm
  packages: [busybox-static, nginx-light, python3]
  files:
    - {from: app, to: /srv}

service:
  command: COMMAND
  workdir: /srv
  port: 8080
  health: HEALTH
  stop: {grace: 1s, drain: 1s}
  limits: {memory: 256M, cpus: CPUS, pids: 200}

environments:
  dev:
    listen: 127.0.0.1:PORT
    drift: {check: never}
"""

PYTHON = '''\
"""Compile, fork, map and write, all the time; and answer."""

import http.server
import importlib.util
import mmap
import multiprocessing
import os
import py_compile
import subprocess
import sys
import tempfile
import threading
import time

HERE = tempfile.gettempdir()


def work(number):
    names = {}
    exec(compile(f"def double(x):\\n    return x + {number}\\n", f"<{number}>", "exec"), names)
    with tempfile.TemporaryFile() as file:
        file.truncate(1 << 16)
        with mmap.mmap(file.fileno(), 1 << 16) as mapped:
            mapped[:4] = b"busy"
    return names["double"](number)


def pools(kind):
    context = multiprocessing.get_context(kind)
    while True:
        workers = [context.Process(target=work, args=(number,)) for number in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()


def programs():
    code = "import json, tempfile; tempfile.TemporaryFile().write(b'x'); json.dumps([])"
    while True:
        running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
        for one in running:
            one.wait()
        subprocess.run("sleep 0.01 | cat; (sleep 0.3 &) ; (setsid sleep 0.2 &)", shell=True)


def modules():
    for number in range(10**9):
        path = f"{HERE}/made_{number % 8}.py"
        with open(path, "w") as file:
            file.write(f"value = {number}\\n")
        compiled = py_compile.compile(path, cfile=f"{path}c", doraise=True)
        spec = importlib.util.spec_from_file_location("made", compiled)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        os.unlink(compiled)
        time.sleep(0.002)


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = str(work(1)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


if __name__ == "__main__":
    storms = [(pools, ("fork",)), (pools, ("spawn",)), (programs, ()), (modules, ())]
    for storm, words in storms:
        threading.Thread(target=storm, args=words, daemon=True).start()
    http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Answer).serve_forever()
'''

NGINX = """\
daemon off;
worker_processes 4;
pid /tmp/nginx.pid;
error_log stderr warn;
events { worker_connections 128; }
http {
    access_log off;
    client_body_temp_path /tmp/body;
    proxy_temp_path /tmp/proxy;
    fastcgi_temp_path /tmp/fastcgi;
    uwsgi_temp_path /tmp/uwsgi;
    scgi_temp_path /tmp/scgi;
    server {
        listen 8080;
        location ~ ^/a(.*)z$ { return 200 "a to z\\n"; }
        location / { root /srv; }
    }
}
"""

# what BusyBox's httpd runs for each request: children that come and go, and a file in /tmp
CGI = """\
#!/bin/sh
name=/tmp/$$
printf 'one\\ntwo\\n' | busybox sort >$name
count=$(cat $name | busybox wc -l)
busybox rm $name
printf 'Status: 200 OK\\r\\nContent-Type: text/plain\\r\\n\\r\\n%s\\n' "$count"
"""

COMMANDS = {
    "python": "[python3, /srv/busy.py]",
    "nginx": "[nginx, -e, stderr, -c, /srv/nginx.conf]",
    "busybox": "[busybox, httpd, -f, -p, '8080', -h, /srv/www]",
}
PATHS = {"python": "/", "nginx": "/abcz", "busybox": "/cgi-bin/work"}
BY_COMMAND = "{command: [sh, -c, 'test -d /srv && sleep 0.02'], interval: 100ms, timeout: 20s, deadline: 60s}"


def new_busy(folder: Path, home: Path, kind: str, *, health: str = "{tcp: true}", cpus: str = "2.0") -> Project:
    """Write the project of one of the ``COMMANDS``."""
    port = free_port()
    files = {"busy.py": PYTHON, "nginx.conf": NGINX, "www/cgi-bin/work": CGI}
    for name, text in files.items():
        path = folder / "app" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    words = {"NAME": kind, "COMMAND": COMMANDS[kind], "HEALTH": health, "CPUS": cpus, "PORT": str(port)}
    definition = DEFINITION
    for word, text in words.items():
        definition = definition.replace(word, text)
    (folder / "instar.yaml").write_text(definition)
    return Project(folder=folder, home=home, ports={"dev": port})


class Checker:
    """Checks of an environment, in this process: a command takes longer to start than to check."""

    def __init__(self, project: Project, service: str, environment: str = "dev") -> None:
        self.project = project
        self.workspace = MachineWorkspace(project.environ, silent)
        self.environment = EnvironmentId(service=service, name=environment)

    def check(self, *, deep: bool = False) -> Checked:
        """Check once; nothing may be found."""
        state = self.workspace.ledger.get_environment(self.environment)
        report = drift(self.workspace, state, deep=deep)
        assert report.checked.findings == (), [str(finding) for finding in report.checked.findings]
        return report.checked

    def check_often(self, count: int, *, deep_each: int = 10) -> None:
        """Check ``count`` times; one in ``deep_each`` reads every byte."""
        for number in range(count):
            assert self.check(deep=number % deep_each == deep_each - 1).instances, "nothing was looked at"


@contextlib.contextmanager
def probed(project: Project, service: str, environment: str = "dev", *, threads: int = 1) -> Iterator[list[bool]]:
    """Have each instance's health check run inside, one after the other without a pause; yield what they said."""
    said: list[bool] = []
    stop = threading.Event()

    def ask() -> None:
        workspace = MachineWorkspace(project.environ, silent)
        environment_id = EnvironmentId(service=service, name=environment)
        runtime = workspace.provider("local").runtime
        while not stop.is_set():
            for instance in workspace.ledger.instances(environment_id):
                release = workspace.ledger.get_release(environment_id, instance.release)
                said.append(runtime.probe(instance, release).healthy)
            time.sleep(0.01)

    running = [threading.Thread(target=ask) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield said
    finally:
        stop.set()
        for thread in running:
            thread.join()


def copy_baked(baked: Path, home: Path) -> None:
    """Give ``home`` what was baked in another state directory, and no instance of it."""
    home.mkdir(mode=0o700)
    for name in ("store", "steps", "cache", "layers"):
        shutil.copytree(baked / name, home / name)


def served_by(checker: Checker) -> int:
    """Return the pid of the first instance's own program, below its init."""
    pid = checker.project.pid(checker.workspace.ledger.instances(checker.environment)[0].id)
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
