"""State directories with odd names, and on disks that are full."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_world import TinyWorld

from instar.errors import ProviderError
from instar.model.definition import Volume

pytestmark = pytest.mark.root


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "small", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def test_any_name_will_do(tmp_path: Path) -> None:
    world = TinyWorld(tmp_path / 'a b,c\\d"e ü')
    volumes = (Volume(name="data", path="/var/lib/two words"),)
    assert world.output("touch '/var/lib/two words/x' && echo well", volumes=volumes) == ["well"]
    world.close()


def test_a_name_that_conmon_does_not_take_is_refused(tmp_path: Path) -> None:
    world = TinyWorld(tmp_path / "with:colon")
    release = world.release(["true"])
    with pytest.raises(ProviderError, match="conmon takes no ':' in a path"):
        world.runtime.create(world.instance(release), release, world.image)
    world.close()


def test_a_full_disk_is_said_and_leaves_nothing(small_disk: Path) -> None:
    world = TinyWorld(small_disk / "home")
    assert world.output("echo well") == ["well"]
    release = world.release(["true"])
    instance = world.instance(release)
    filling = small_disk / "filling"
    with pytest.raises(OSError, match="No space left"):
        filling.write_bytes(bytes(20 << 20))
    for _ in range(6):  # with a little room, it gets a little further
        with pytest.raises(ProviderError, match=f"cannot create '{instance.id}': .*No space left") as failure:
            world.runtime.create(instance, release, world.image)
        assert failure.value.hint == "df -h shows which disk"
        assert world.traces() == []
        os.truncate(filling, filling.stat().st_size - 4096)
    filling.unlink()
    assert world.output("echo well") == ["well"]
    world.close()
