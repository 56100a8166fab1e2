"""gc on a real state directory: what it takes, what it never takes, killed at any moment, and beside deploys."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network
from pathlib import Path
from types import FrameType
from typing import Literal

import pytest
from leftovers import remove_state
from test_store_crashes import EPOCH, apart, check_whole, status

from instar.errors import ImageNotFound, NotFound, Refused
from instar.fetch.needs import Needs
from instar.ledger import Ledger
from instar.model.digest import Digest
from instar.model.environment import Keep, Settings
from instar.model.garbage import Collection
from instar.model.image import ImageConfig
from instar.model.progress import Progress
from instar.model.release import EnvironmentId, Instance, Release
from instar.operations.gc import gc, kept_releases, remove_image
from instar.operations.locks import hold_needs, hold_store, keep_from_gc
from instar.operations.pin import pin
from instar.operations.retention import required
from instar.providers.local import logs
from instar.store import Store
from instar.workspace import MachineWorkspace
from simulated.values import configuration
from transactions import permitted

pytestmark = pytest.mark.root

DEV = EnvironmentId(service="web", name="dev")
NETWORK = IPv4Network("10.9.0.0/16")
POINTS = 24
NOTHING = Collection(images=(), blobs=0, size_bytes=0)


class Home:
    """A state directory, and what commands do in it as far as gc is concerned. The image of "a" needs the file "a"."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.told: list[Progress] = []
        self.workspace = MachineWorkspace({"INSTAR_HOME": str(path)}, self.told.append)
        self.workspace.provider("local")  # it makes the mark of the state directory, before anything carries it

    @property
    def ledger(self) -> Ledger:
        return self.workspace.ledger

    def another(self) -> Home:
        """Return what another process works with."""
        return Home(self.path)

    def gc(self, *, dry_run: bool = False, everything: bool = False) -> Collection:
        return gc(self.workspace, dry_run=dry_run, everything=everything)

    def keep(self, releases: int) -> None:
        self.ledger.save_settings(DEV, Settings(keep=Keep(hot=0, releases=releases)))

    def bake(self, word: str) -> Digest:
        """Do what a bake does; the caller holds the store."""
        needs, needed = Needs(self.workspace.state.cache), [Digest.of(word.encode())]
        needs.write("service-web", needed)
        self.workspace.cache.add([word.encode()])
        tree = self.path / "tree"
        tree.mkdir(exist_ok=True)
        (tree / "file").write_text(word)
        layer = self.workspace.store.add_layer(tree, step="files", epoch=EPOCH)
        config = ImageConfig(architecture="amd64", user="1:1", command=("x",))
        digest = self.workspace.store.add_image(config, [layer], created=EPOCH).digest
        needs.write(digest.hex, needed)
        self.workspace.store.tag("web", digest)
        return digest

    def begin(self, word: str) -> Instance:
        """Do what a deploy does until its instance is there."""
        with keep_from_gc(self.workspace):
            with hold_store(self.workspace):
                digest = self.bake(word)
            release = self.ledger.add_release(DEV, digest, configuration())
            self.ledger.begin_rollout(DEV, "deploy", release.number)
        return self.launch(release.number)

    def launch(self, number: int) -> Instance:
        (instance,) = self.ledger.add_instances(DEV, number, 1)
        logs.begin(self.log(instance.id))
        self.log(instance.id).write_text("2026-01-01T00:00:00Z stdout F here\n")
        return instance

    def end(self, how: Literal["done", "failed"]) -> None:
        """Do what the loop does at a rollout's end: one release has an instance afterwards."""
        state = self.ledger.get_environment(DEV)
        assert state.rollout is not None
        if how == "done":
            self.ledger.set_active(DEV, state.rollout.target)
        active = self.ledger.get_environment(DEV).active
        for instance in self.ledger.instances(DEV):
            if instance.release != active:
                self.ledger.remove_instance(instance.id, "over")
        self.ledger.end_rollout(state.rollout, how)

    def release(self, word: str, how: Literal["done", "failed"] = "done") -> Release:
        number = self.begin(word).release
        self.end(how)
        return self.ledger.get_release(DEV, number)

    def log(self, name: str) -> Path:
        return self.workspace.state.logs / f"{name}.log"

    def logged(self) -> set[str]:
        return {path.name.removesuffix(".log") for path in self.workspace.state.logs.glob("*.log")}

    def fetched(self) -> set[str]:
        return {path.read_text() for path in (self.workspace.state.cache / "sha256").iterdir()}

    def check(self) -> None:
        """Nothing that is needed is missing, or damaged."""
        check_whole(self.workspace.store)
        assert {release.image for release in kept_releases(self.workspace.ledger)} <= set(
            self.workspace.store.digests()
        )
        self.check_running()

    def check_running(self) -> None:
        """Nothing is missing of what runs or is about to."""
        state = self.ledger.get_environment(DEV)
        present = {instance.release for instance in self.ledger.instances()}
        for number in required(state, self.ledger.releases(DEV), present):
            image = self.workspace.store.image(self.ledger.get_release(DEV, number).image)
            for layer in image.layers:
                self.workspace.store.verify(layer.digest)
        assert {instance.id for instance in self.ledger.instances()} <= self.logged()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """An environment that keeps one release besides what is needed."""
    made = Home(tmp_path / "home")
    made.keep(1)
    yield made
    remove_state(made.path)


def test_what_nobody_needs_goes_and_is_told(home: Home) -> None:
    images = [home.release(word).image for word in "abc"]
    assert home.fetched() == {"a", "b", "c"} and home.logged() == {f"web-dev-{number}-1" for number in (1, 2, 3)}
    dry = home.gc(dry_run=True)
    assert dry.images == (images[0],) and dry.logs == ("web-dev-1-1",) and dry.fetched == 1 and dry.blobs == 3
    assert home.fetched() == {"a", "b", "c"} and len(home.logged()) == 3 and len(home.workspace.store.digests()) == 3
    size = home.path.joinpath("cache/sha256", Digest.of(b"a").hex).stat().st_size
    blobs = sum(path.stat().st_size for path in (home.path / "store/blobs/sha256").iterdir())
    assert home.gc() == dry
    assert dry.size_bytes - size == blobs - sum(
        path.stat().st_size for path in (home.path / "store/blobs/sha256").iterdir()
    )
    assert set(home.workspace.store.digests()) == set(images[1:])
    assert home.fetched() == {"b", "c"} and home.logged() == {"web-dev-2-1", "web-dev-3-1"}
    event = home.ledger.history(last=1)[-1]
    assert event.kind == "gc" and event.detail == {
        "images": [images[0]], "blobs": 3, "bytes": dry.size_bytes, "logs": 1, "recordings": 0, "fetched": 1,
        "secrets": 0,
    }  # fmt: skip
    assert home.gc() == NOTHING
    assert home.ledger.history(last=1)[-1].seq == event.seq, "nothing removed, nothing told"
    home.check()


def test_a_running_rollout_keeps_all_that_it_is_made_of(home: Home) -> None:
    for word in "abc":
        home.release(word)
    home.begin("d")
    home.gc()
    home.check()
    assert home.fetched() == {"b", "c", "d"}
    home.end("failed")
    home.check()


def test_more_may_be_kept_again_than_is_there(home: Home) -> None:
    for word in "abcd":
        home.release(word)
    home.gc()
    home.keep(5)
    assert home.gc() == NOTHING, "what an earlier gc took is not missed"
    newest = home.release("e").image
    home.gc()
    assert newest in home.workspace.store.digests()
    assert home.fetched() == {"c", "d", "e"}, "and what is kept no longer keeps no file from going"


def test_what_a_killed_gc_half_removed_is_made_whole_when_it_is_kept_again(home: Home) -> None:
    old = [home.release(word).image for word in "abcd"][1]
    home.workspace.store.remove(old)
    home.keep(3)
    home.gc()
    assert home.workspace.store.image(old)
    home.workspace.store.remove(old)
    (home.path / "store/blobs/sha256" / home.ledger.get_release(DEV, 2).image.hex).unlink()
    home.gc()
    assert old not in home.workspace.store.digests()


def test_an_index_that_lost_what_runs_costs_no_blob(home: Home) -> None:
    image = home.release("a").image
    home.workspace.store.remove(image)
    before = set((home.path / "store/blobs/sha256").iterdir())
    with pytest.raises(ImageNotFound, match=image.short):
        home.gc()
    assert set((home.path / "store/blobs/sha256").iterdir()) == before


def test_a_pin_keeps_image_log_and_files_until_it_is_taken_back(home: Home) -> None:
    old = home.release("a")
    for _ in range(2):
        assert pin(home.workspace, DEV, 1, pinned=True).pinned
    for word in "bcd":
        home.release(word)
    home.gc()
    assert old.image in home.workspace.store.digests() and "a" in home.fetched() and "web-dev-1-1" in home.logged()
    with pytest.raises(Refused, match="needed by release web/dev 1"):
        remove_image(home.workspace, old.image)
    with pytest.raises(ImageNotFound, match="cannot pin release 2 of 'web/dev': its image is gone"):
        pin(home.workspace, DEV, 2, pinned=True)
    with pytest.raises(NotFound, match="there is no such release"):
        pin(home.workspace, DEV, 9, pinned=True)
    for _ in range(2):
        assert not pin(home.workspace, DEV, 1, pinned=False).pinned
    assert [event.kind for event in home.ledger.history(DEV) if "pinned" in event.kind] == ["pinned", "unpinned"]
    assert home.gc().images == (old.image,)


def test_the_log_of_a_fresh_failure_stays_as_long_as_it_is_among_the_newest(home: Home) -> None:
    home.keep(2)
    home.release("a")
    home.release("b", "failed")
    home.release("c")
    assert home.gc().logs == () and home.log("web-dev-2-1").exists()
    home.release("d")
    assert home.gc().logs == ("web-dev-1-1", "web-dev-2-1")
    assert home.logged() == {"web-dev-3-1", "web-dev-4-1"}


def test_logs_that_a_destroyed_environment_left_go(home: Home) -> None:
    home.release("a")
    home.ledger.remove_instance("web-dev-1-1", "over")
    home.ledger.remove_environment(DEV)
    home.keep(1)
    home.release("b")
    assert home.gc(dry_run=True).logs == ("web-dev-1-1",) and home.log("web-dev-1-1").exists()
    assert home.gc().logs == ("web-dev-1-1",) and home.logged() == {"web-dev-2-1"}


def test_fetched_files_stay_while_it_is_not_known_who_needs_them(home: Home) -> None:
    image = home.release("a").image
    home.release("b")
    (home.path / "cache/needed" / image.hex).unlink()
    home.workspace.cache.add([b"stray"])
    assert home.gc().fetched == 0 and home.fetched() == {"a", "b", "stray"}
    assert f"which of them image {image.short} needs" in home.told[-1].text
    with hold_store(home.workspace):
        home.bake("a")
    assert home.gc().fetched == 1 and home.fetched() == {"a", "b"}


def test_when_everything_fetched_went_it_is_still_known_who_needs_what(home: Home) -> None:
    home.release("a")
    Needs(home.workspace.state.cache).write("service-other", [Digest.of(b"other")])
    assert home.gc(everything=True).fetched == 1 and home.fetched() == set()
    home.workspace.cache.add([b"a"])
    home.workspace.cache.add([b"other"])
    assert home.gc().fetched == 1 and home.fetched() == {"a"}


def test_what_a_failed_bake_of_a_newer_lock_fetched_stays(home: Home) -> None:
    home.release("a")
    Needs(home.workspace.state.cache).write("service-web", [Digest.of(b"newer")])
    home.workspace.cache.add([b"newer"])
    assert home.gc() == NOTHING and home.fetched() == {"a", "newer"}


def test_gc_may_be_killed_at_any_moment(home: Home) -> None:
    """After each kill what is needed is there, deploys go on, and there is as much to remove again."""
    words = (f"{number:06}" for number in range(100_000))

    def collect() -> None:
        home.another().gc()

    def fill() -> None:
        for _ in range(2):
            home.release(next(words))

    fill()
    fill()
    calls = calls_of(collect, home.path / "calls")
    for point in range(1, POINTS):
        fill()
        assert status(apart(collect, kill_after_calls=calls * point // POINTS)) == -signal.SIGKILL
        home.check()
    home.gc()
    assert len(home.workspace.store.digests()) == len(home.fetched()) == len(home.logged()) == 2
    assert len(list((home.path / "cache/needed").iterdir())) == 3
    assert not any((home.path / "store/partial").iterdir())
    home.ledger.verify()


def test_gc_beside_deploys_and_rollbacks_takes_nothing_that_they_need(home: Home) -> None:
    """Deploys hold the store when they begin; who goes back looks for the image, and says so, under a lock of gc's."""
    home.release("first")

    def collects() -> None:
        mine = home.another()
        while not (home.path / "stop").exists():
            mine.gc()

    pid = apart(collects)
    try:
        for number in range(12):
            instance = home.begin(f"word {number}")
            assert home.log(instance.id).read_text()
            home.check_running()
            home.end("done" if number % 3 else "failed")
            home.check_running()
            with contextlib.suppress(ImageNotFound):
                go_back(home, max(1, instance.release - 2 - number % 3))
            home.check_running()
    finally:
        (home.path / "stop").touch()
    assert status(pid) == 0


@pytest.mark.parametrize("verb", ["rollback", "pin"])
def test_what_begins_to_need_an_image_waits_until_gc_has_taken_it(
    home: Home, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    for word in "abc":
        home.release(word)
    genuine, heard = Store.digests, []

    def needs_it() -> None:
        other = home.another()
        try:
            go_back(other, 1) if verb == "rollback" else pin(other.workspace, DEV, 1, pinned=True)
        except ImageNotFound as error:
            heard.append(error)

    other = threading.Thread(target=needs_it)

    def late(store: Store) -> tuple[Digest, ...]:
        if other.ident is None:
            other.start()
            other.join(0.3)
            assert other.is_alive()
        return genuine(store)

    monkeypatch.setattr(Store, "digests", late)
    assert len(home.gc().images) == 1
    other.join()
    assert heard and home.ledger.get_environment(DEV).rollout is None
    assert not home.ledger.get_release(DEV, 1).pinned


def test_the_log_of_an_instance_that_is_made_meanwhile_stays(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for word in "ab":
        home.release(word)
    image, genuine = home.release("c").image, home.ledger.releases

    def late(environment: EnvironmentId, **last: int) -> tuple[Release, ...]:
        found = genuine(environment, **last)
        number = home.ledger.add_release(environment, image, configuration()).number
        with permitted():
            home.launch(number)
        return found

    monkeypatch.setattr(home.ledger, "releases", late)
    assert home.gc().logs == ("web-dev-1-1",)
    assert {"web-dev-4-1", "web-dev-5-1"} <= home.logged()


def go_back(home: Home, number: int) -> None:
    with hold_needs(home.workspace):
        home.workspace.store.image(home.ledger.get_release(DEV, number).image)
        if home.ledger.get_environment(DEV).active == number:
            return
        home.ledger.begin_rollout(DEV, "rollback", number)
    home.launch(number)
    home.check_running()
    home.end("done")


def calls_of(work: Callable[[], None], file: Path) -> int:
    """Return how many of the interpreter's own functions ``work`` calls, in a process of its own."""

    def counted() -> None:
        calls = 0

        def count(frame: FrameType, event: str, argument: object) -> None:
            nonlocal calls
            calls += event == "c_call"

        sys.setprofile(count)
        work()
        sys.setprofile(None)
        file.write_text(str(calls))

    assert status(apart(counted)) == 0
    return int(file.read_text())
