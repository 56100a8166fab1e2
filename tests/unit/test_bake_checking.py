"""Why large files are not the same when they are baked again: a service in a jar is one."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from instar.bake import checking
from instar.bake.checking import differences
from instar.store import Store

LARGE = random.Random(1).randbytes(3 << 20)


def jar(path: Path, second: int, **parts: bytes) -> None:
    with zipfile.ZipFile(path, "w") as made:
        for name, data in parts.items():
            made.writestr(zipfile.ZipInfo(f"{name}.class", (2026, 1, 1, 0, 0, second)), data)


def baked(folder: Path, fill: Any, once: int) -> tuple[Store, Any]:
    tree = folder / f"tree{once}"
    tree.mkdir(parents=True)
    fill(tree, once)
    store = Store(folder / f"store{once}")
    return store, SimpleNamespace(steps=[SimpleNamespace(step="run 1", layer=store.add_layer(tree, step="x", epoch=0))])


def found(folder: Path, fill: Any) -> dict[str, str]:
    (one, before), (two, after) = baked(folder, fill, 0), baked(folder, fill, 2)
    return {each.path: each.why for each in differences(one, before, two, after)}


def test_of_a_large_archive_it_is_said_what_differs_in_it(tmp_path: Path) -> None:
    def fill(tree: Path, once: int) -> None:
        jar(tree / "times.jar", once, Main=LARGE)
        jar(tree / "parts.jar", 0, Main=LARGE, Build=b"%d" % once, Version=b"%d" % once)
        (tree / "plain").write_bytes(LARGE + b"%d and more" % once)
        (tree / "longer").write_bytes(LARGE + b"x" * once)
        (tree / "same").write_bytes(LARGE)

    assert found(tmp_path, fill) == {
        "/times.jar": "only the times of what is packed in it differ: give all the same one, as jar --date does",
        "/parts.jar": "'Build.class', which is packed in it, differs, and 1 more",
        "/plain": f"it differs, from byte {len(LARGE):,}: {LARGE[-16:] + b'0 and more'!r}, then "
        f"{LARGE[-16:] + b'2 and more'!r}",
        "/longer": f"it has {len(LARGE):,} bytes, then {len(LARGE) + 2:,}",
    }


def test_of_more_than_is_looked_into_it_is_said_that_it_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "_LARGE_BYTES", 1 << 20)
    why = found(tmp_path, lambda tree, once: jar(tree / "a.jar", once, Main=LARGE))
    assert why["/a.jar"].startswith("its content differs (3,1")
