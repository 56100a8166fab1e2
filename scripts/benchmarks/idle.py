"""What the agent costs while nothing happens: fifty instances in five environments."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from subject import INSTAR, Subject, free_port

ENVIRONMENTS, INSTANCES = 5, 10
SETTLED_S, WATCHED_S = 15.0, 30.0
MOST_PERCENT, MOST_MB = 1.0, 80.0

DEFINITION = """\
name: idle
image: {base: 'debian:bookworm', packages: [busybox-static]}
service:
  command: [busybox, httpd, -f, -p, '8080', -h, /etc]
  port: 8080
  health: {path: /os-release}
  stop: {grace: 100ms}
  limits: {memory: 32M, pids: 16}
environments:
"""


def measure(folder: Path, home: Path) -> tuple[float, float]:
    """Return how much of one core the agent takes, in percent, and its resident memory in MB."""
    folder.mkdir()
    ports = [free_port() for _ in range(ENVIRONMENTS)]
    lines = [f"  e{at}: {{listen: '127.0.0.1:{port}', instances: {INSTANCES}}}\n" for at, port in enumerate(ports)]
    (folder / "instar.yaml").write_text(DEFINITION + "".join(lines))
    subject = Subject(folder=folder, home=home, port=ports[0])
    try:
        for at in range(ENVIRONMENTS):
            subject.run("deploy", f"e{at}")
        return watch(subject)
    finally:
        for at in range(ENVIRONMENTS):
            subject.run("destroy", f"idle/e{at}", "--yes", json_too=False)


def watch(subject: Subject) -> tuple[float, float]:
    """Return what an agent of its own takes meanwhile: of one core, in percent, and resident memory in MB."""
    words = [str(INSTAR), "agent", "--metrics", f"127.0.0.1:{free_port()}"]
    with subprocess.Popen(words, cwd=subject.folder, env=subject.environ, stdout=subprocess.DEVNULL) as agent:
        try:
            time.sleep(SETTLED_S)
            before = _cpu_s(agent.pid)
            time.sleep(WATCHED_S)
            used = _cpu_s(agent.pid) - before
            return 100 * used / WATCHED_S, _resident_mb(agent.pid)
        finally:
            agent.terminate()


def _cpu_s(pid: int) -> float:
    """Return the processor time of a process and of the children that it has waited for. Its own is told by its clock
    (clock_getcpuclockid(3)), to the nanosecond: a tick is a large part of what an idle one takes."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children_s = sum(int(fields[at]) for at in (13, 14)) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(~pid << 3 | 2) + children_s


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
