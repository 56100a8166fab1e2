"""What steps gave, kept by their keys; and the configuration of an image."""

from __future__ import annotations

from pathlib import Path

import pytest

from instar.bake.records import Records
from instar.bake.root import derived_time
from instar.model.digest import Digest
from instar.model.image import Layer

LAYER = Layer(digest=Digest.of(b"blob"), diff_id=Digest.of(b"tar"), size_bytes=4, step="files")


class Holding:
    """A store that holds what it was told."""

    def __init__(self, *layers: Layer) -> None:
        self.layers = layers

    def holds(self, layer: Layer) -> bool:
        return layer in self.layers


def records(folder: Path, *layers: Layer) -> Records:
    return Records(folder, Holding(*layers))  # type: ignore[arg-type]


def test_a_record_comes_back_while_the_store_has_its_layer(tmp_path: Path) -> None:
    records(tmp_path).add("abc", LAYER)
    assert records(tmp_path, LAYER).find("abc") == LAYER
    assert records(tmp_path).find("abc") is None
    assert records(tmp_path, LAYER).find("def") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"layer": {}}', '{"layer": {"digest": "no"}}', "\xff"])
def test_a_damaged_record_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "abc.json").write_bytes(text.encode("latin-1"))
    assert records(tmp_path, LAYER).find("abc") is None


def test_prune_removes_what_is_worth_nothing(tmp_path: Path) -> None:
    kept, gone = LAYER, Layer(digest=Digest.of(b"other"), diff_id=Digest.of(b"x"), size_bytes=1)
    for key, layer in (("aa", kept), ("bb", gone)):
        records(tmp_path).add(key, layer)
    (tmp_path / ".half.json").touch()
    (tmp_path / "work").mkdir()
    assert records(tmp_path, kept).prune() == 2
    assert {path.name for path in tmp_path.iterdir()} == {"aa.json", "work"}


def test_a_files_time_is_derived_from_its_content_and_never_newer_than_the_epoch() -> None:
    times = {derived_time(Digest.of(str(number).encode()).hex.encode(), 1_700_000_000) for number in range(50)}
    assert len(times) > 5
    assert all(1_700_000_000 - 10 * 366 * 86_400 < time <= 1_700_000_000 for time in times)
    assert derived_time(b"\xff" * 32, 0) == 0
