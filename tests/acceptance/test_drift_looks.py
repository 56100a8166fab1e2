"""What cannot be looked at is a finding, and hides nothing else: each thing that a check of drift reads is taken away
and damaged in turn, while something else differs too."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from intruder import Victim
from project import Project, require_its_own
from test_tampering import checked, prepare, victim

from instar.model.drift import Finding
from instar.providers.local.inspection import inspect

pytestmark = [pytest.mark.root, pytest.mark.thorough]

RUBBISH = b'\xff{"a": [[['


@dataclass(frozen=True, kw_only=True)
class Read:
    """A file that drift reads, and what says that it can't be relied on: a finding's kind, and a part of its path."""

    name: str
    path: Callable[[Victim], Path]
    kind: str
    part: str


def of_instance(name: str, kind: str, part: str | None = None) -> Read:
    return Read(name=name, path=lambda victim: victim.folder / name, kind=kind, part=part or Path(name).name)


def of_home(name: str, kind: str, part: str) -> Read:
    """``name`` may have a pattern, of which the first counts; {victim} is the instance."""
    return Read(name=name, path=lambda victim: _first(victim, name), kind=kind, part=part)


def _first(victim: Victim, pattern: str) -> Path:
    return min(victim.project.home.glob(pattern.format(victim=victim.name)))


def _blob(victim: Victim, which: int) -> Path:
    """The image's manifest, its configuration, and its layers, in this order."""
    home = victim.project.home
    digests = [victim.project.json("status", "dev")["releases"][0]["image"]]
    manifest = json.loads((home / "store/blobs/sha256" / digests[0].removeprefix("sha256:")).read_bytes())
    digests += [manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])]
    return home / "store/blobs/sha256" / digests[which].removeprefix("sha256:")


READS = (
    of_instance("made.json", "record"),
    of_instance("process.json", "record"),
    of_instance("instance.json", "record"),
    of_instance("config.json", "bundle"),
    of_instance("hostname", "file"),
    of_instance("resolv.conf", "file"),
    of_instance("conmon.pid", "runtime", "conmon"),
    of_instance("secrets/TOKEN", "secret"),
    of_home("run/runc/{victim}/state.json", "runtime", "state.json"),
    of_home("secrets/key", "secret", ""),
    of_home("layers/*.sha256", "blob", "layer sha256:"),
    of_home("store/index.json", "blob", ""),
    Read(name="manifest", path=lambda victim: _blob(victim, 0), kind="blob", part="image sha256:"),
    Read(name="configuration", path=lambda victim: _blob(victim, 1), kind="blob", part="image sha256:"),
    Read(name="layer", path=lambda victim: _blob(victim, 2), kind="blob", part="blob sha256:"),
    of_home("routers/hello/dev/haproxy.cfg", "router", "haproxy.cfg"),
    of_home("routers/hello/dev/holder.json", "router", "holder.json"),
    of_home("routers/hello/dev/preview.map", "router", "preview.map"),
)
ONLY_REMOVED = (
    of_home("logs/{victim}.log", "runtime", ".log"),  # what is in it is what the instance printed
    of_home("run/routers/*.sock", "router", "HAProxy"),
)
NOTES = of_home("run/sealed/*.erofs", "", "")


@pytest.fixture(scope="module")
def running(module_project: Project) -> Project:
    prepare(module_project)
    module_project.edit("secrets: {TOKEN", "preview: header\n    secrets: {TOKEN")
    module_project.instar("deploy", "dev")
    return module_project


@pytest.fixture(autouse=True)
def soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here lasts for a moment only."""
    monkeypatch.setattr(inspect, "AGAIN_AFTER_S", (0.01,))


@contextlib.contextmanager
def removed(path: Path) -> Iterator[None]:
    aside = path.with_name(f"aside-{path.name}")
    path.rename(aside)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        aside.rename(path)


@contextlib.contextmanager
def damaged(path: Path) -> Iterator[None]:
    require_its_own(path)
    kept = path.read_bytes()
    path.write_bytes(RUBBISH)
    try:
        yield
    finally:
        path.write_bytes(kept)


@contextlib.contextmanager
def something_else(target: Victim) -> Iterator[None]:
    hosts = target.folder / "hosts"
    hosts.chmod(0o666)
    try:
        yield
    finally:
        hosts.chmod(0o644)


def told(findings: tuple[Finding, ...]) -> set[tuple[str, str]]:
    return {(one.kind, one.path) for one in findings}


@pytest.mark.parametrize("how", [removed, damaged], ids=["removed", "damaged"])
def test_what_cannot_be_looked_at_is_found_and_hides_nothing_else(
    running: Project, how: Callable[[Path], contextlib.AbstractContextManager[None]]
) -> None:
    target = victim(running)
    assert checked(running).findings == ()
    for read in (*READS, *(ONLY_REMOVED if how is removed else ())):
        with how(read.path(target)), something_else(target):
            seen = checked(running)
        found = told(seen.findings)
        assert any(kind == read.kind and read.part in path for kind, path in found), (read.name, found)
        assert read.name == "made.json" or ("file", "/etc/hosts") in found, (read.name, found)
        assert seen.instances == (target.name,), read.name
        assert "a secret" not in str(seen.findings), read.name
        assert checked(running).findings == (), read.name


def test_without_what_was_written_down_all_that_follows_from_the_release_is_looked_at(running: Project) -> None:
    target = victim(running)
    token = target.folder / "secrets/TOKEN"
    with removed(target.folder / "made.json"), damaged(token):
        assert {kind for kind, _ in told(checked(running).findings)} == {"record", "secret"}


def test_a_note_that_is_lost_is_made_again(running: Project) -> None:
    target = victim(running)
    for how in (removed, damaged):
        with how(NOTES.path(target)):
            assert checked(running).findings == ()
