"""Debian's own packages over another definition, and over the same as an image of others: the archive, apt, dpkg."""

from __future__ import annotations

import pytest
from base_kit import Machine, machine

from instar.operations.bake_check import check_bake

pytestmark = [pytest.mark.root, pytest.mark.long]
__all__ = ["machine"]
LINES = "run: ['dpkg --audit; dpkg-query -W >/known; echo {} | jq -c . >/ran']"


def test_packages_of_debian_over_a_definition_and_over_an_image(machine: Machine) -> None:
    base = machine.write("base: debian:bookworm\npackages: [libjq1]", "base", "base")
    machine.lock(base)
    over = machine.write(f"base: {{image: ../base/instar.yaml}}\npackages: [jq]\nstrip: [docs]\n{LINES}", "web", "web")
    lock = machine.lock(over).lock
    assert [one.name for one in lock.packages] == ["jq"] and lock.installed is not None
    baked = machine.bake(over)
    stood_on = machine.workspace.store.find("base")
    assert baked.image.layers[: len(stood_on.layers)] == tuple(
        layer for layer in baked.image.layers if layer.digest in {one.digest for one in stood_on.layers}
    )
    files = dict(line.split(": ", 1) for line in machine.files(baked.image))
    assert files["/ran"] == "{}\n"
    assert not check_bake(machine.workspace, over).differences

    (machine.folder / "other").mkdir()
    machine.workspace.store.export(stood_on.digest, machine.folder / "other/base.tar")
    on_image = machine.write(f"base: {{oci: ./base.tar}}\npackages: [jq]\nstrip: [docs]\n{LINES}", "other", "other")
    again = machine.lock(on_image).lock
    assert again.installed == lock.installed and again.packages == lock.packages
    other = machine.bake(on_image)
    assert [one.diff_id for one in other.image.layers] == [one.diff_id for one in baked.image.layers]
