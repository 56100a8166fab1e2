"""What is measured. Each function interleaves Instar and what stands beside it, round by round."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec

import archive
import entries
import kubernetes
import leftovers
import load
import looking
import memory
import peer
from figures import Figure
from subject import GUESTBOOK, ROOT, Subject, free_port, guestbook, set_version, wait_for_version

if TYPE_CHECKING:
    from edge import Asked

P = ParamSpec("P")

DOCKERFILE = """\
FROM bench-base
COPY venv /opt/venv
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1
WORKDIR /srv/app
COPY app /srv/app
{run}EXPOSE 8080
CMD ["python", "-m", "uvicorn", "guestbook:app", "--host", "0.0.0.0", "--port", "8080", "--no-access-log"]
"""
RUN = "RUN python -m compileall -q --invalidation-mode unchecked-hash /srv/app\n"


@dataclass
class Bench:
    """What the measurements share: a folder, how many rounds, and Docker once somebody asks for it."""

    folder: Path
    scratch: Path
    rounds: int | None
    stack: ExitStack
    _docker: peer.Docker | None = None
    _names: Iterator[int] = field(default_factory=lambda: iter(range(1000)))

    def times(self, usual: int) -> range:
        return range(self.rounds or usual)

    @property
    def home(self) -> Path:
        """A state directory that is kept, so that nothing is fetched twice."""
        path = self.folder / "home"
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path

    def fresh(self, name: str) -> Path:
        return self.scratch / f"{name}-{next(self._names)}"

    @contextmanager
    def guestbook(self, *, run_lines: bool = True) -> Iterator[Subject]:
        """A guestbook whose image is baked and warm; in the end nothing of it runs."""
        subject = guestbook(self.fresh("guestbook"), self.home, run_lines=run_lines)
        subject.destroy()
        subject.run("bake")
        try:
            yield subject
        finally:
            subject.destroy()

    @property
    def docker(self) -> peer.Docker:
        if self._docker is None:
            self._docker = self.stack.enter_context(peer.docker(self.folder / "docker"))
            base = self.fresh("base").with_suffix(".tar")
            argv = ["mmdebstrap", "--quiet", "--variant=minbase", "--include=python3", "bookworm", str(base)]
            subprocess.run(argv, check=True)
            self._docker.command("import", str(base), "bench-base")
            base.unlink()
        return self._docker

    def context(self, *, run_lines: bool = True) -> Path:
        """A folder for ``docker build`` with the same application and the same wheels."""
        context = self.fresh("context")
        shutil.copytree(GUESTBOOK / "app", context / "app")
        uv = ROOT / ".venv/bin/uv"
        subprocess.run([uv, "venv", "--quiet", "--python", "/usr/bin/python3", context / "venv"], check=True)
        target = ["--python", str(context / "venv/bin/python"), "--compile-bytecode"]
        subprocess.run([uv, "pip", "install", "--quiet", *target, "-r", GUESTBOOK / "requirements.txt"], check=True)
        (context / "Dockerfile").write_text(DOCKERFILE.format(run=RUN if run_lines else ""))
        return context


def timed(action: Callable[P, object], *arguments: P.args, **more: P.kwargs) -> float:
    """Return the seconds that ``action`` takes."""
    began = time.perf_counter()
    action(*arguments, **more)
    return time.perf_counter() - began


def bake(bench: Bench) -> list[Figure]:
    """A bake after one file was edited, and one after none was."""
    figures = []
    for run_lines, name in ((True, "files and run layers"), (False, "files layer only")):
        ours, theirs, ours_same, theirs_same = [], [], [], []
        context = bench.context(run_lines=run_lines)
        bench.docker.build(context, "bench-app")
        with bench.guestbook(run_lines=run_lines) as subject:
            for _ in bench.times(9):
                set_version(subject.folder / "app", f"{time.time_ns()}")
                ours.append(subject.run("bake").seconds)
                set_version(context / "app", f"{time.time_ns()}")
                theirs.append(timed(bench.docker.build, context, "bench-app"))
                ours_same.append(subject.run("bake").seconds)
                theirs_same.append(timed(bench.docker.build, context, "bench-app"))
        figures += [
            Figure(
                what=f"bake, one file changed: {name}",
                ours=ours,
                beside=theirs,
                unit="s",
                peer="docker build",
                most=0.9,
            ),
            Figure(
                what=f"bake, nothing changed: {name}",
                ours=ours_same,
                beside=theirs_same,
                unit="s",
                peer="docker build",
                most=0.08,
                alone=True,
            ),
        ]
    return figures


def replace(bench: Bench) -> list[Figure]:
    """From a saved file to the first answer of the new version through the router."""
    ours, theirs = [], []
    context = bench.context()
    bench.docker.build(context, "bench-app")
    volume = bench.fresh("volume")
    volume.mkdir()
    os.chown(volume, 10001, 10001)
    proxy = peer.Proxy(bench.scratch, free_port())
    containers: list[str] = []
    with bench.guestbook() as subject:
        subject.run("deploy", "dev")
        _replace_container(bench, context, proxy, volume, containers)
        for number in bench.times(7):
            version = f"round-{number}"
            set_version(subject.folder / "app", version)
            began = time.perf_counter()
            deploy = subject.start("deploy", "dev")
            wait_for_version(subject.url, version)
            ours.append(time.perf_counter() - began)
            subject.finish(deploy)  # it goes on after the traffic has moved: drains, retires what isn't kept
            set_version(context / "app", version)
            began = time.perf_counter()
            _replace_container(bench, context, proxy, volume, containers)
            wait_for_version(proxy.url, version)
            theirs.append(time.perf_counter() - began)
            while len(containers) > 2:
                bench.docker.remove(containers.pop(0))
    for container in containers:
        bench.docker.remove(container)
    proxy.stop()
    what = "saved file to first answer of the new version"
    peer_name = "docker build + run + healthy + HAProxy reload"
    return [Figure(what=what, ours=ours, beside=theirs, unit="s", peer=peer_name, most=0.5)]


def _replace_container(bench: Bench, context: Path, proxy: peer.Proxy, volume: Path, containers: list[str]) -> None:
    bench.docker.build(context, "bench-app")
    containers.append(bench.docker.run("bench-app", volume))
    address = bench.docker.address(containers[-1])
    peer.wait_until_healthy(address)
    proxy.point(address)


def rollback(bench: Bench) -> list[Figure]:
    """Back to a hot release: when the traffic has moved, and when the command has ended."""
    switch_ms, seconds = [], []
    with bench.guestbook() as subject:
        subject.run("deploy", "dev")
        for number in bench.times(9):
            set_version(subject.folder / "app", f"rollback-{number}")
            subject.run("deploy", "dev")
            done = subject.run("rollback", "dev")
            switch_ms.append(done.answer["switch_ms"])
            seconds.append(done.seconds)
    return [
        Figure(what="rollback, traffic moved", ours=switch_ms, unit="ms", most=10),
        Figure(what="rollback, the whole command", ours=seconds, unit="s", most=0.12),
    ]


def fifty(bench: Bench) -> list[Figure]:
    """Deploys and rollbacks, one after the other, while requests come without a pause."""
    changes, seconds = 0, []
    with bench.guestbook() as subject:
        subject.run("deploy", "dev")
        with load.running(subject.url, "--rate", "400", "--connections", "16") as traffic:
            for number in bench.times(25):
                set_version(subject.folder / "app", f"fifty-{number}")
                seconds.append(subject.run("deploy", "dev").seconds)
                seconds.append(subject.run("rollback", "dev").seconds)
                changes += 2
            report = traffic.stop()
    for reason, count in report["reasons"].items():
        print(f"          failed: {count} × {reason}")
    latency, asked = report["latency_ms"], report["requests"]
    under = f"under load ({changes} deploys and rollbacks, {asked:,} requests)"
    return [
        Figure(what=f"failed requests {under}", ours=[report["failed"]], unit="requests", most=0),
        Figure(what="a deploy or rollback under load", ours=seconds, unit="s"),
        Figure(what="99 of 100 requests answered within, then", ours=[latency["p99"]], unit="ms"),
    ]


def cold(bench: Bench) -> list[Figure]:
    """A first bake with every file fetched, beside mmdebstrap making a tar of the same packages on this disk."""
    ours, theirs = [], []
    subject = Subject(folder=bench.fresh("cold"), home=bench.home, port=0)
    subject.folder.mkdir()
    (subject.folder / "instar.yaml").write_text(
        "name: cold\nimage: {base: 'debian:bookworm', packages: [python3]}\nservice: {command: [python3]}\n"
    )
    subject.run("bake")
    repository = archive.write(bench.fresh("archive"), subject.folder / "instar.lock", bench.home / "cache")
    unpacked = timed(repository.unpack, bench.fresh("unpacked"))
    for _ in bench.times(3):
        home = bench.fresh("home")
        bench.stack.callback(leftovers.remove_state, home)
        home.mkdir(mode=0o700)
        shutil.copytree(bench.home / "cache", home / "cache", copy_function=os.link)
        ours.append(Subject(folder=subject.folder, home=home, port=0).run("bake").seconds)
        target = bench.fresh("mmdebstrap").with_suffix(".tar")
        theirs.append(timed(repository.mmdebstrap, target))
        target.unlink()
    half = [unpacked / statistics.median(theirs)]
    return [
        Figure(
            what=f"cold bake of {len(repository.names)} packages, all fetched",
            ours=ours,
            beside=theirs,
            unit="s",
            peer="mmdebstrap",
            most=0.8,
        ),
        Figure(what="of mmdebstrap's time, unpacking the same packages alone", ours=half, unit="×"),
    ]


def peak(bench: Bench) -> list[Figure]:
    """The most memory that a bake of a gigabyte of files has, all of its processes together."""
    subject = Subject(folder=bench.fresh("large"), home=bench.home, port=0)
    memory.write_gigabyte(subject.folder / "data")
    (subject.folder / "instar.yaml").write_text(
        "name: large\nimage: {base: 'debian:bookworm', files: [{from: data, to: /srv/data}]}\n"
        "service: {command: [sleep, '9']}\n"
    )
    began = time.perf_counter()
    bytes_used = memory.peak_bytes(subject.start("bake"))
    seconds = time.perf_counter() - began
    return [
        Figure(what="peak memory of a bake of 1 GB of files", ours=[bytes_used / 1e6], unit="MB", most=200),
        Figure(what="that bake, base included", ours=[seconds], unit="s"),
    ]


def scaling(bench: Bench) -> list[Figure]:
    """One look at thousands of instances and the decision that nothing is to do; status with a long history."""
    import scale

    figures = scale.passes({count: bench.fresh("ledger") for count in scale.COUNTS}, len(bench.times(9)))
    home = bench.fresh("home")
    scale.history(home, 100_000)
    subject = Subject(folder=bench.scratch, home=home, port=0)
    seconds = [subject.run("status").seconds for _ in bench.times(9)]
    return [*figures, Figure(what="status, with 100,000 events in the ledger", ours=seconds, unit="s", most=0.5)]


def drift_checks(bench: Bench) -> list[Figure]:
    """What it takes to prove that instances are what was baked, beside docker diff and hashing every file."""
    import drift

    found: dict[str, list[float]] = {}

    def note(name: str, seconds: float) -> None:
        found.setdefault(name, []).append(seconds)

    with drift.deployed(bench.fresh("drift"), bench.home, instances=1, processes=drift.PROCESSES) as (subject, one):
        hashing, container = one.hashing(), drift.container(bench.docker, one.root(), bench.scratch)
        for _ in bench.times(9):
            note("one", one.seconds())
            note("deep", one.seconds(deep=True))
            note("hashing", timed(hashing.ours))
            note("openssl", timed(hashing.openssl))
            note("root", timed(drift.hash_root, one.root()))
            note("command", subject.run("drift", "drift/dev").seconds)
            note("diff", timed(bench.docker.command, "diff", container))
    with drift.deployed(
        bench.fresh("drift"), bench.home, instances=drift.INSTANCES, processes=drift.PROCESSES_EACH
    ) as (_, every):
        for _ in bench.times(9):
            note("all", every.seconds())
    return _drift_figures(found)


def by_name(bench: Bench) -> list[Figure]:
    """Requests by name through the edge and a router, beside nginx; and what a hundred names take."""
    import edge

    with ExitStack() as stack:
        folder = bench.fresh("edge")
        folder.mkdir()
        asking = edge.Bench(bench.folder / "edge", folder, stack)
        rounds = [{way: asking.ask(way) for way in asking.ways} for _ in bench.times(5)]
    with edge.named(bench.fresh("names")) as names:
        moved = [names.change_ms(number, "moved.test") for number in range(edge.ENVIRONMENTS)]
        added = [names.change_ms(number, f"added{number}.test") for number in range(edge.ENVIRONMENTS)]
        return [
            *_request_figures(rounds),
            Figure(what="a name added, of 100 names in 20 environments", ours=added, unit="ms", most=50),
            Figure(what="a name moved to another environment", ours=moved, unit="ms", most=50),
            Figure(what="start of the edge", ours=[names.first_ms], unit="ms"),
            Figure(what="memory of the edge and its holder", ours=[names.memory_mb], unit="MB"),
        ]


def _request_figures(rounds: Sequence[Mapping[str, Asked]]) -> list[Figure]:
    """Return the figures of a request by https through edge and router, and of one through the router alone, beside
    other ways. 1.67 times as long is 0.6 times as many."""

    def figure(
        way: str, peer: str, most: float | None = None, more: str = "", of: str = "each_us", unit: str = "µs"
    ) -> Figure:
        ours, beside = ([float(getattr(one[name], of)) for one in rounds] for name in (way, peer))
        asked = {"edge": "a request by https through edge and router", "router": "a request by http through the router"}
        return Figure(what=f"{asked[way]}{more}", ours=ours, unit=unit, beside=beside, peer=peer, most=most)

    with_kamal_proxy = [figure("router", "kamal-proxy", 1.0)] if "kamal-proxy" in rounds[0] else []
    return [
        figure("edge", "nginx", 1.67),
        figure("edge", "nginx behind nginx", 1.0),
        figure("edge", "Caddy"),
        figure("edge", "router"),
        *with_kamal_proxy,
        figure("edge", "nginx behind nginx", None, ", 99th percentile", "slowest_ms", "ms"),
        *(
            figure("edge", peer, None, ", processor time", "cpu_us")
            for peer in ("nginx", "nginx behind nginx", "Caddy", "router")
        ),
    ]


def _drift_figures(found: Mapping[str, Sequence[float]]) -> list[Figure]:
    import drift

    ms = {name: [1000 * seconds for seconds in values] for name, values in found.items()}
    one, many = (
        f"check of an instance of {drift.PROCESSES} processes",
        f"check of {drift.INSTANCES} instances of 2 each",
    )
    least = drift.OPENSSL_TIMES
    return [
        Figure(
            what=one, ours=ms["one"], beside=ms["root"], unit="ms", peer="sha256sum of its root", most=15, alone=True
        ),
        Figure(what=many, ours=found["all"], unit="s", most=drift.ALL_S),
        Figure(what=f"{one}, the whole command", ours=ms["command"], beside=ms["diff"], unit="ms", peer="docker diff"),
        Figure(
            what="hashing its layers, on one core",
            ours=ms["hashing"],
            beside=ms["openssl"],
            unit="ms",
            peer="openssl dgst",
            most=least,
        ),
        Figure(what="deep check of it, on all cores", ours=ms["deep"], beside=ms["openssl"], unit="ms", peer="openssl"),
    ]


def pushed(bench: Bench) -> list[Figure]:
    """Push of an image of which one layer has changed, to a registry."""
    import push

    ours, others = zip(*push.rounds(bench.fresh("push"), len(bench.times(7)), bench.stack), strict=True)
    what = "push, one layer of 1 MB changed of 41 MB"
    return [Figure(what=what, ours=ours, unit="s", beside=others, peer="skopeo copy", most=1.0)]


def many_files(bench: Bench) -> list[Figure]:
    """A bake that copies a hundred thousand small files."""
    import many

    folder = bench.fresh("many")
    files = many.Many(folder, bench.home)
    ours, others = zip(*((files.bake(), files.tar()) for _ in bench.times(3)), strict=True)
    shutil.rmtree(folder)
    return [Figure(what=many.WHAT, ours=ours, unit="s", beside=others, peer="tar, to another folder")]


ITEMS: Mapping[str, Callable[[Bench], list[Figure]]] = {
    "bake": bake,
    "cold": cold,
    "replace": replace,
    "rollback": rollback,
    "fifty": fifty,
    "memory": peak,
    "scale": scaling,
    "agent": entries.agent,
    "entries": entries.timed,
    "top": looking.refreshed,
    "drift": drift_checks,
    "edge": by_name,
    "push": pushed,
    "many": many_files,
    "kubernetes": kubernetes.rolled_out,
    "thousand": kubernetes.thousand,
}
