"""What scripts/demo shows, told by the command line as a user types it; every claim is checked, and none is assumed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import leftovers  # noqa: E402  (beside this file; -I keeps its folder off the path)
import load  # noqa: E402

HOME = Path(os.environ.get("INSTAR_HOME", "/var/cache/instar-demo"))
PLACES = ("guestbook/production", "guestbook/dev")
LOAD_RATE = "400"
PATIENCE_S = 120.0


class Broken(Exception):
    """Something did not happen as it must; its text says what."""


def expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise Broken(otherwise)


def say(stage: str, text: str) -> None:
    print(f" {stage:<8} {text}", flush=True)


class Demonstration:
    """A copy of the guestbook, the commands on it, and what they were seen to do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {"dev": free_port(8080), "production": free_port(8090)}
        definition = (ROOT / "examples/guestbook/instar.yaml").read_text()
        shutil.copytree(ROOT / "examples/guestbook", folder, dirs_exist_ok=True)
        for usual, port in zip((8080, 8090), self.ports.values(), strict=True):
            definition = definition.replace(f"listen: 127.0.0.1:{usual}", f"listen: 127.0.0.1:{port}")
        (folder / "instar.yaml").write_text(definition)

    def instar(self, *words: str, json_too: bool = True) -> Any:
        """Run a command as a user would, its progress to be seen; return what it answers in JSON."""
        print(f"$ instar {' '.join(words)}", flush=True)
        result = subprocess.run(
            [ROOT / ".venv/bin/instar", *words, *(["--json"] if json_too else [])],
            cwd=self.folder,
            env={**os.environ, "INSTAR_HOME": str(HOME)},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        expect(result.returncode == 0, f"instar {' '.join(words)} ended with {result.returncode}: {result.stdout}")
        if not json_too:
            print(result.stdout, end="", flush=True)
        return json.loads(result.stdout) if json_too else None

    def try_instar(self, *words: str) -> Any:
        """Run a command that may fail; return what it answers in JSON."""
        print(f"$ instar {' '.join(words)}", flush=True)
        command = [str(ROOT / ".venv/bin/instar"), *words]
        environ = {**os.environ, "INSTAR_HOME": str(HOME)}
        result = subprocess.run(command, cwd=self.folder, env=environ, stdout=subprocess.PIPE, text=True, check=False)
        return json.loads(result.stdout) if result.stdout else None

    def url(self, environment: str) -> str:
        return f"http://127.0.0.1:{self.ports[environment]}"

    def version(self, environment: str) -> str | None:
        with urllib.request.urlopen(self.url(environment) + "/", timeout=10) as answer:
            version: str | None = answer.headers["X-Guestbook-Version"]
            return version

    def entries(self, environment: str) -> Any:
        with urllib.request.urlopen(self.url(environment) + "/entries", timeout=10) as answer:
            return json.load(answer)

    def sign(self, environment: str, name: str, text: str) -> None:
        form = urllib.parse.urlencode({"name": name, "text": text}).encode()
        urllib.request.urlopen(self.url(environment) + "/entries", data=form, timeout=10).close()

    def change(self, old: str, new: str) -> None:
        source = self.folder / "app/guestbook.py"
        text = source.read_text()
        expect(old in text, f"{old!r} is not in guestbook.py")
        source.write_text(text.replace(old, new))


def free_port(usual: int) -> int:
    """Return the example's own port, or any free one where somebody has it."""
    for port in (usual, 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise Broken("no free port on 127.0.0.1")


def first_bake(demo: Demonstration) -> Any:
    """Bake as the example was locked; an archive that has dropped a locked version since gets a new lock."""
    lock = demo.folder / "instar.lock"
    if json.loads(lock.read_text())["architecture"] != architecture():
        lock.unlink()
    try:
        return demo.instar("bake")
    except Broken as first:
        say("note", "once more with a new lock: archives drop old versions of their packages")
        try:
            demo.instar("lock", "--update")
            return demo.instar("bake")
        except Broken as second:
            raise second from first


def architecture() -> str:
    printed = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True)
    return printed.stdout.strip()


def first_deploy(demo: Demonstration) -> dict[str, Any]:
    """Bake and deploy version 1, and leave an entry in the guestbook."""
    baked = first_bake(demo)
    deployed = demo.instar("deploy", "dev")
    expect(deployed["image"] == baked["digest"], "what runs is not what was baked")
    expect(demo.version("dev") == "1", "dev does not answer with version 1")
    demo.sign("dev", "Ada", "the first entry")
    return {"bake": baked, "deploy": deployed}


def under_load(demo: Demonstration) -> dict[str, Any]:
    """Change, bake, deploy and roll back while requests keep coming."""
    options = ("--rate", LOAD_RATE, "--connections", "16", "--tally", "X-Guestbook-Version")
    with load.running(demo.url("dev") + "/", *options) as traffic:
        # the line of the time makes it a change that no earlier run has baked
        demo.change('VERSION = "1"', f'VERSION = "2"  # changed {time.time_ns()}')
        saved = time.monotonic()
        baked = demo.instar("bake")
        deployed = demo.instar("deploy", "dev")
        expect(demo.version("dev") == "2", "dev does not answer with version 2 after its deploy")
        answered_s = time.monotonic() - saved
        time.sleep(0.5)  # some requests for the new version; the load goes on whatever we wait for
        rolled_back = demo.instar("rollback", "dev")
        expect(demo.version("dev") == "1", "dev does not answer with version 1 after the rollback")
        time.sleep(0.5)
        report = traffic.stop()
    expect(report["failed"] == 0, f"{report['failed']} requests failed: {report['reasons']} {report['first_failures']}")
    expect(set(report["tally"]) == {"1", "2"}, f"the load was not answered by both versions: {report['tally']}")
    return {"bake": baked, "deploy": deployed, "rollback": rolled_back, "load": report, "answered_s": answered_s}


def promote(demo: Demonstration) -> dict[str, Any]:
    """Take the image that dev runs to production; nothing is baked."""
    promoted: dict[str, Any] = demo.instar("promote", "dev", "production")
    expect(demo.version("production") == "1", "production does not answer with version 1")
    return promoted


def carefully(demo: Demonstration) -> dict[str, Any]:
    """A release that is well by its health check, and fails what users ask: a canary finds it out, and takes it back.
    Then an instance dies, and the agent puts another in its place."""
    rollout = "rollout: {strategy: canary, steps: [20], pause: 30s, analysis: {min_requests: 20}}"
    definition = demo.folder / "instar.yaml"
    definition.write_text(definition.read_text().replace("    promote_from: dev", f"    {rollout}\n    #"))
    demo.change("    page = PAGE.format(", f"    page = {time.time_ns()} / 0  # PAGE.format(")
    with load.running(demo.url("production") + "/", "--rate", "100", "--connections", "8") as traffic:
        refused = demo.try_instar("deploy", "production", "--json")
        report = traffic.stop()
    expect(refused is not None and refused["outcome"] == "failed", "a release that fails requests went through")
    expect("requests failed" in refused["reason"], f"it failed for another reason: {refused['reason']}")
    expect(demo.version("production") == "1", "production does not answer with version 1 after the canary")
    victim, *_ = healthy(demo)  # of what runs now: the history has demonstrations before this one too
    first = json.loads((HOME / "run/instances" / victim / "process.json").read_text())
    os.kill(first["pid"], signal.SIGKILL)
    names, until = [victim], time.monotonic() + PATIENCE_S
    while (victim in names or len(names) < 2) and time.monotonic() < until:  # a pass waits for no slow start
        demo.instar("agent", "--once", json_too=False)
        names = healthy(demo)
    expect(victim not in names and len(names) == 2, f"the dead instance was not replaced: {names}")
    return {"canary": refused, "load": report}


def healthy(demo: Demonstration) -> list[str]:
    """Return the well instances of production's active release."""
    status = demo.instar("status", "production")
    (active,) = [one for one in status["releases"] if one["number"] == status["active"]]
    return [one["id"] for one in active["instances"] if one["healthy"]]


def check(demo: Demonstration, first: dict[str, Any], second: dict[str, Any], promoted: dict[str, Any]) -> None:
    """What must be true in the end, whatever the commands said of themselves."""
    demo.instar("status", json_too=False)
    status = demo.instar("status", "dev")
    expect(status["active"] == first["deploy"]["release"], "dev's active release is not the first one")
    expect(second["rollback"]["image"] == first["bake"]["digest"], "the rollback went to another image")
    expect(promoted["image"] == first["bake"]["digest"], "production runs another image than dev")
    expect(second["bake"]["digest"] != first["bake"]["digest"], "the change made no new image")
    expect({"name": "Ada", "text": "the first entry"} in demo.entries("dev"), "the entry from release 1 is lost")


def summary(
    first: dict[str, Any], second: dict[str, Any], promoted: dict[str, Any], careful: dict[str, Any], seconds: float
) -> None:
    canary = careful["load"]
    traffic, deploy, rollback = second["load"], second["deploy"], second["rollback"]
    rows = [
        ("version 1", f"{first['bake']['digest']}  baked in {first['bake']['seconds']:.2f} s"),
        ("version 2", f"{second['bake']['digest']}  baked in {second['bake']['seconds']:.2f} s"),
        ("deploy", f"release {deploy['release']} in {deploy['seconds']:.2f} s, traffic moved in {ms(deploy)}"),
        ("", f"saved file to served request {second['answered_s']:.2f} s, bake included"),
        ("rollback", f"release {rollback['release']} in {rollback['seconds']:.2f} s, traffic moved in {ms(rollback)}"),
        ("promote", f"release {promoted['release']} of production in {promoted['seconds']:.2f} s, the same digest"),
        (
            "canary",
            f"a bad release was taken back by itself; {canary['failed']} of {canary['requests']:,} requests failed",
        ),
        ("requests", f"{traffic['served']:,} served, {traffic['failed']} failed, by version: {tally(traffic)}"),
        ("latency", f"{traffic['latency_ms']['p50']} ms median, {traffic['latency_ms']['p99']} ms for 99 of 100"),
    ]
    print()
    for name, text in rows:
        say(name, text)
    say("done", f"all of it in {seconds:.1f} s; destroyed, and nothing is left but {HOME}")


def ms(outcome: dict[str, Any]) -> str:
    return f"{outcome['switch_ms']:.1f} ms"


def tally(traffic: dict[str, Any]) -> str:
    return " · ".join(f"{version}: {count:,}" for version, count in traffic["tally"].items())


@contextlib.contextmanager
def clean(demo: Demonstration) -> Iterator[None]:
    """Begin and end without environments; in the end, without a trace outside of the files that are kept."""
    destroy(demo)
    try:
        yield
    finally:
        destroy(demo)
    demo.instar("gc")
    marks = [str(HOME), str(demo.folder), *((HOME / "id").read_text().split() if (HOME / "id").exists() else ())]
    left = leftovers.remaining(lambda: leftovers.traces(*marks))
    expect(not left, "left behind:\n" + "\n".join(left))


def destroy(demo: Demonstration) -> None:
    """Destroy what this demonstration, or one before it that was killed, has made."""
    known = {f"{environment['service']}/{environment['environment']}" for environment in demo.instar("status") or ()}
    for environment in PLACES:
        if environment in known:
            demo.instar("destroy", environment, "--yes", "--volumes", json_too=False)


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    HOME.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with tempfile.TemporaryDirectory(prefix="instar-demo-") as folder:
            demo = Demonstration(Path(folder))
            with clean(demo):
                first = first_deploy(demo)
                second = under_load(demo)
                promoted = promote(demo)
                careful = carefully(demo)
                check(demo, first, second, promoted)
    except (Broken, OSError, RuntimeError, KeyError, ValueError) as error:
        print(f"\n FAILED   {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return 1
    summary(first, second, promoted, careful, time.monotonic() - started)
    return 0


if __name__ == "__main__":
    sys.exit(main())
