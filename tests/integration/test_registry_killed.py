"""Pulls and pushes killed at any moment, and asked for again: nothing half-made, and no byte twice that was there."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from registry_kit import EPOCH, Door, at, made, noise, parts
from test_store_crashes import apart, check_whole, status

from instar.store import Store
from lying_registry import Handler, LyingRegistry, serving
from registries import RealRegistry, running

pytestmark = pytest.mark.root
PULL_STRIDE, PUSH_STRIDE = 331, 2_003  # every so many calls into the interpreter's own functions, a process is killed


def in_all_threads(work: Callable[[], object]) -> Callable[[], None]:
    """Have what kills a process count the calls of its threads too."""

    def run() -> None:
        threading.setprofile(sys.getprofile())
        work()

    return run


def kills(work: Callable[[int], object], check: Callable[[int], None], stride: int) -> int:
    """Kill ``work`` later and later, until it ends before it is killed; return how often that was."""
    for count in range(1, 2_000):
        code = status(apart(in_all_threads(lambda: work(count)), kill_after_calls=count * stride))  # noqa: B023
        check(count)
        if code == 0:
            return count
        assert code == -signal.SIGKILL
    raise AssertionError("it never ended")


def test_a_pull_may_be_killed_at_any_moment(tmp_path: Path) -> None:
    store, root = Store(tmp_path / "store"), tmp_path / "other"
    image = made(store, tmp_path, b"base", noise(2 << 20), noise(100_000))
    with running(RealRegistry(tmp_path / "registry")) as registry:
        what = at(registry.host, image)
        Door().registries.push(store, image.digest, what.repository)

        def check(_: int) -> None:
            other = Store(root)
            check_whole(other)
            assert set(other.digests()) <= {image.digest}
            Door().registries.pull(other, what)
            assert other.image(image.digest) == image
            check_whole(other)
            assert not [name for name in parts(other) if re.fullmatch("[0-9a-f]{64}", name)]
            other.collect([])
            assert not parts(other) and not any((root / "blobs/sha256").iterdir())

        assert kills(lambda count: Door().registries.pull(Store(root), what), check, PULL_STRIDE) > 5


def test_a_push_may_be_killed_at_any_moment(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    image = made(store, tmp_path, b"base", noise(2 << 20), noise(100_000))
    with running(RealRegistry(tmp_path / "registry")) as registry:

        def push(count: int) -> object:
            where = at(registry.host, image, f"shop-{count}").repository
            return Door().registries.push(Store(store.root), image.digest, where)

        def check(count: int) -> None:
            push(count)
            other = Store(tmp_path / "other")
            Door().registries.pull(other, at(registry.host, image, f"shop-{count}"))
            assert other.image(image.digest) == image
            check_whole(other)
            shutil.rmtree(other.root)
            check_whole(store)

        assert kills(push, check, PUSH_STRIDE) > 5


def test_a_killed_command_goes_on_where_it_was(tmp_path: Path) -> None:
    """The command itself, killed with -9 and then with ^C while a registry has it wait in the middle of a layer."""
    store, home = Store(tmp_path / "store"), tmp_path / "home"
    image = made(store, tmp_path, b"base", noise(3 << 20))
    large = image.layers[1]
    waiting = threading.Event()
    limit = [1 << 20]

    def halfway(handler: Handler) -> bool:
        if not handler.path.endswith(large.digest) or handler.command != "GET":
            return False
        start = handler.span().start
        handler.wfile.write(handler.begin_blob(handler.registry.blobs[large.digest])[: max(0, limit[0] - start)])
        waiting.set()
        handler.registry.released.wait(120)
        return True

    with serving(LyingRegistry()) as registry:
        registry.take(store.root, image.digest)
        registry.lie = halfway
        argv = [sys.executable, "-IB", "-m", "instar", "pull", str(at(registry.host, image))]
        environ = {**os.environ, "INSTAR_HOME": str(home), "HOME": str(tmp_path)}
        for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
            waiting.clear()
            with subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
                assert waiting.wait(60)
                part = home / "store/partial" / large.digest.hex
                while not (part.exists() and part.stat().st_size == limit[0]):
                    assert child.poll() is None
                child.send_signal(number)
                out, err = child.communicate(timeout=60)
            assert (child.returncode, out) == (code, b""), err
            other = Store(home / "store")
            check_whole(other)
            assert other.digests() == () and large.digest.hex in parts(other)
            limit[0] += 1 << 20
        registry.lie, registry.sent_bytes = (lambda handler: False), 0
        done = subprocess.run(argv, env=environ, check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == f"{at(registry.host, image)}\n"
    assert registry.sent_bytes < large.size_bytes - (2 << 20) + 2_000
    assert Store(home / "store").image(image.digest) == image
    assert image.created == EPOCH and not parts(Store(home / "store"))
