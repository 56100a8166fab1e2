"""Trees that others have made go as a whole, and nothing else with them."""

from __future__ import annotations

import os
from pathlib import Path

from instar.host.filesystems import trees


def test_a_tree_too_deep_for_recursion_goes_and_what_it_points_to_stays(tmp_path: Path) -> None:
    kept, tree = tmp_path / "kept", tmp_path / "-tree"
    kept.mkdir()
    (kept / "file").touch()
    tree.mkdir()
    here = os.open(tree, os.O_RDONLY)
    for _ in range(3_000):
        os.mkdir("d", dir_fd=here)
        os.symlink(kept, "link", dir_fd=here)
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    trees.remove(tree)
    assert not tree.exists()
    assert (kept / "file").exists()
    trees.remove(tree)
