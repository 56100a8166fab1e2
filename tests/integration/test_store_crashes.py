"""A process killed at any moment, and several at once: the store stays whole."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from instar.errors import BlobDamaged, ImageNotFound
from instar.model.digest import Digest
from instar.model.image import ImageConfig
from instar.store import Store

pytestmark = pytest.mark.root
EPOCH = 1_700_000_000
STRIDE = 19  # every so many calls into the interpreter's own functions, a process is killed


def check_whole(store: Store) -> None:
    """Everything that the store names is there, and everything that is there is what its name says."""
    images = store.images()
    assert set(store.tags().values()) <= {image.digest for image in images}
    for image in images:
        for digest in (image.digest, image.config_digest, *(layer.digest for layer in image.layers)):
            store.verify(digest)
    for path in (store.root / "blobs/sha256").iterdir():
        store.verify(Digest.from_hex(path.name))


def bake(store: Store, tree: Path, word: str) -> Digest:
    """What a bake does to the store."""
    tree.mkdir(exist_ok=True)
    (tree / "file").write_text(word)
    layer = store.add_layer(tree, step="files", epoch=EPOCH)
    image = store.add_image(ImageConfig(architecture="amd64", user="1:1", command=("x",)), [layer], created=EPOCH)
    store.tag(word, image.digest)
    return image.digest


def apart(work: Callable[[], None], *, kill_after_calls: int | None = None) -> int:
    """Begin ``work`` in a process of its own, killed when it has called so many functions; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        if kill_after_calls is not None:
            sys.setprofile(killer(kill_after_calls))
        work()
    except BaseException as error:
        os.write(2, repr(error).encode())
        os._exit(1)
    os._exit(0)


def killer(calls: int) -> Callable[[FrameType, str, Any], None]:
    left = calls

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal left
        if event == "c_call":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return count


def status(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def until_unharmed(work: Callable[[int], None], check: Callable[[], None]) -> int:
    """Kill ``work`` later and later, until it ends before it is killed; return how often that was."""
    for count in range(1, 5_000):
        code = status(apart(lambda: work(count), kill_after_calls=count * STRIDE))  # noqa: B023
        check()
        if code == 0:
            return count
        assert code == -signal.SIGKILL
    raise AssertionError("it never ended")


def test_a_bake_may_be_killed_at_any_moment(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    kept = bake(store, tmp_path / "tree", "kept")
    done = tmp_path / "done"
    done.touch()

    def work(count: int) -> None:
        digest = bake(Store(store.root), tmp_path / "tree", f"bake-{count}")
        with done.open("a") as file:
            file.write(f"{digest}\n")

    def check() -> None:
        check_whole(store)
        assert {kept, *done.read_text().split()} <= {image.digest for image in store.images()}
        done.write_text("")
        store.collect([kept])
        assert len(list((store.root / "blobs/sha256").iterdir())) == 3
        assert not any((store.root / "partial").iterdir())

    assert until_unharmed(work, check) > 20


def test_a_store_may_be_killed_while_it_is_made(tmp_path: Path) -> None:
    def check() -> None:
        if (tmp_path / "store/index.json").exists():
            assert Store(tmp_path / "store").images() == ()

    def work(count: int) -> None:
        Store(tmp_path / "store")

    assert until_unharmed(work, check) > 3
    bake(Store(tmp_path / "store"), tmp_path / "tree", "word")
    check_whole(Store(tmp_path / "store"))


def test_a_collection_may_be_killed_at_any_moment(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    kept = bake(store, tmp_path / "tree", "kept")
    for number in range(4):
        bake(store, tmp_path / "tree", f"gone-{number}")

    def check() -> None:
        check_whole(store)
        assert store.find("kept").digest == kept

    def work(count: int) -> None:
        Store(store.root).collect([kept])

    assert until_unharmed(work, check) > 5
    assert len(list((store.root / "blobs/sha256").iterdir())) == 3


def test_two_bakes_at_once_do_not_hurt_each_other(tmp_path: Path) -> None:
    root = tmp_path / "store"

    def work(name: str) -> None:
        for number in range(15):
            bake(Store(root), tmp_path / name, f"{name}-{number}")
            bake(Store(root), tmp_path / name, f"both-{number}")

    pids = [apart(lambda name=name: work(name)) for name in ("one", "two")]  # type: ignore[misc]
    assert [status(pid) for pid in pids] == [0, 0]
    store = Store(root)
    check_whole(store)
    assert set(store.tags()) == {f"{name}-{number}" for name in ("one", "two", "both") for number in range(15)}
    assert len(store.images()) == 45
    assert not any((root / "partial").iterdir())


def test_a_collection_beside_a_bake_costs_the_bake_at_most(tmp_path: Path) -> None:
    root = tmp_path / "store"
    Store(root)

    def bakes() -> None:
        for number in range(40):
            with contextlib.suppress(BlobDamaged, ImageNotFound):
                bake(Store(root), tmp_path / "tree", f"bake-{number}")

    def collects() -> None:
        for _ in range(40):
            Store(root).collect([])

    pids = [apart(bakes), apart(collects)]
    assert [status(pid) for pid in pids] == [0, 0]
    check_whole(Store(root))
