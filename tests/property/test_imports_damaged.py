"""What chance does to archives of images: each comes in as what it says or is refused, in bounded time, and the store
has nothing then that is not what its name says."""

from __future__ import annotations

import gzip
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
from import_kit import LAYER, Files, docker_save, for_platforms, layout, tar_files
from test_archives_damaged import damaged
from test_store_crashes import check_whole

from instar.errors import StoreError
from instar.model.digest import Digest
from instar.store import Store

SHORT, LONG = 150, 5_000
SECONDS = 5.0

LAYOUT, SAVED = layout(LAYER, LAYER + bytes(512), name="shop"), docker_save(LAYER, tags=["shop:v1"])
PLATFORMS = for_platforms()


def as_tar(data: bytes, path: Path) -> None:
    path.write_bytes(data)


def as_folder(chance: random.Random, path: Path) -> None:
    """A layout in a folder of which one file is damaged, and one may be another's."""
    files = dict(LAYOUT)
    name = chance.choice(sorted(files))
    files[name] = damaged(files[name], chance)
    if chance.random() < 0.3:
        files[chance.choice(sorted(files))] = files[chance.choice(sorted(files))]
    for place, content in files.items():
        (path / place).parent.mkdir(parents=True, exist_ok=True)
        (path / place).write_bytes(content)


def in_a_file(files: Files, chance: random.Random) -> bytes:
    """A tar of which one file is damaged, so that more is read than the headers."""
    changed = dict(files)
    name = chance.choice(sorted(changed))
    changed[name] = damaged(changed[name], chance)
    return tar_files(changed)


def in_a_name(chance: random.Random) -> Files:
    """A layout of which what is named by its digest is damaged, and named by the digest that it has then."""
    damages = [chance.random() < 0.4 for _ in range(3)]
    return for_platforms(lambda data: damaged(data, chance) if damages.pop() else data)


KINDS: dict[str, Callable[[random.Random, Path], None]] = {
    "layout": lambda chance, path: as_tar(damaged(tar_files(LAYOUT), chance), path),
    "layout-gz": lambda chance, path: as_tar(damaged(gzip.compress(tar_files(LAYOUT), mtime=0), chance), path),
    "layout-file": lambda chance, path: as_tar(in_a_file(LAYOUT, chance), path),
    "layout-folder": as_folder,
    "platforms-file": lambda chance, path: as_tar(in_a_file(PLATFORMS, chance), path),
    "platforms-named": lambda chance, path: as_tar(tar_files(in_a_name(chance)), path),
    "saved": lambda chance, path: as_tar(damaged(tar_files(SAVED), chance), path),
    "saved-file": lambda chance, path: as_tar(in_a_file(SAVED, chance), path),
}


def attempt(kind: str, folder: Path, seeds: range) -> None:
    store, refused = Store(folder / "store"), 0
    for seed in seeds:
        path = folder / "image"
        KINDS[kind](random.Random(f"{kind} {seed}"), path)
        started = time.process_time()
        try:
            data, attached = store.receive(path)
            image = store.add_manifest(data)
            assert image.digest == Digest.of(data)
            store.attach(image.digest, attached)
            assert set(store.attachments(image.digest)) >= set(attached)
        except StoreError as error:
            refused += 1
            assert str(path) in error.message, f"{kind}, seed {seed}"
        assert time.process_time() - started < SECONDS, f"{kind}, seed {seed}"
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    check_whole(store)
    assert not any((store.root / "partial").iterdir())
    assert refused > len(seeds) // 10


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_damaged_comes_in_or_is_refused(kind: str, tmp_path: Path) -> None:
    attempt(kind, tmp_path, range(SHORT))


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_damaged_comes_in_or_is_refused_many_times(kind: str, tmp_path: Path) -> None:
    attempt(kind, tmp_path, range(SHORT, LONG))
