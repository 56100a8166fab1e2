"""State directories with odd names, and on disks that are full."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_world import TinyWorld

from instar.errors import HostError, ProviderError
from instar.host.network import network
from instar.model.definition import Volume
from instar.model.keyed import keyed_digest
from instar.providers.local.names import Names
from instar.providers.local.subnet import Subnet

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


def test_a_secret_that_is_not_the_release_s_is_given_to_nobody(tmp_path: Path) -> None:
    world = TinyWorld(tmp_path)
    try:
        key, content = b"k" * 32, b"a secret"
        digest = keyed_digest(key, content)
        release = world.release(["sleep", "1000"])
        release = dataclasses.replace(
            release, configuration=dataclasses.replace(release.configuration, secrets={"TOKEN": digest})
        )
        world.state.secrets.mkdir(parents=True)
        world.state.secret(digest).write_bytes(b"another secret")
        with pytest.raises(ProviderError, match="is not given to an instance: its digest cannot be checked") as caught:
            world.run(release)
        assert "a new release" in (caught.value.hint or "")
        world.state.secret_key.write_bytes(key)
        with pytest.raises(ProviderError, match="secret 'TOKEN' of this release is damaged") as caught:
            world.run(release)
        assert "another secret" not in str(caught.value)
        world.state.secret(digest).write_bytes(content)
        world.run(release)
    finally:
        world.sweep()
        world.close()


def test_a_bridge_of_another_id_is_not_made_beside_the_one_that_has_the_network(tmp_path: Path) -> None:
    world = TinyWorld(tmp_path / "home")
    assert world.output("echo well") == ["well"]
    own = Names(world.state, world.id)
    other = Names(world.state, "abcdef")
    with pytest.raises(HostError, match=f"'{own.bridge}' has the network .* already") as caught:
        Subnet(other).restore()
    assert f"if what runs here carries {own.id}, '{own.state.id_file}' is damaged" in (caught.value.hint or "")
    assert not network.link_names(other.bridge)
    assert world.output("echo well") == ["well"]
    world.close()
