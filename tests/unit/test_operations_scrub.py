"""One thing after the other is hashed, and what is damaged is told of once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from instar.errors import BlobDamaged, ImageNotFound
from instar.ledger import Ledger
from instar.model.digest import Digest
from instar.model.environment import Settings
from instar.model.image import Layer
from instar.model.progress import Progress
from instar.model.state import StateDirectory
from instar.operations.scrub import Scrub
from instar.store.hashed_files import HashedFiles
from simulated.values import ENV, configuration, image

LAYERS = tuple(
    Layer(digest=Digest.of(b"blob" + name), diff_id=Digest.of(b"tar" + name), size_bytes=4, step="files")
    for name in (b"1", b"2")
)


class Bytes:
    """A store and its layers: whatever is in ``rotten`` is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rotten: set[Digest] = set()
        self.read: list[Digest] = []
        for layer in LAYERS:
            self.path(layer.digest).write_text("blob")

    def image(self, digest: Digest) -> Any:
        return SimpleNamespace(digest=digest, layers=LAYERS)

    def path(self, digest: Digest) -> Path:
        return self.folder / digest.hex

    def verify(self, digest: Digest) -> None:
        self.read.append(digest)
        if digest in self.rotten:
            raise BlobDamaged("its bytes are others")

    def is_made(self, diff_id: Digest) -> bool:
        return True

    def examine(self, diff_id: Digest, *, deep: bool) -> str | None:
        assert deep
        self.read.append(diff_id)
        return "its bytes are others" if diff_id in self.rotten else None


@pytest.fixture
def scrub(tmp_path: Path) -> Iterator[Scrub]:
    state, stored = StateDirectory(tmp_path, tmp_path / "run"), Bytes(tmp_path)
    said: list[Progress] = []
    with Ledger(state.ledger, actor="agent") as ledger:
        ledger.save_settings(ENV, Settings())
        ledger.add_release(ENV, image("1").digest, configuration())
        ledger.add_instances(ENV, 1, 1)
        hashed_files = HashedFiles(state.sealed)
        layers = SimpleNamespace(layers_in_use=lambda: [layer.diff_id for layer in LAYERS])
        workspace: Any = SimpleNamespace(
            ledger=ledger, store=stored, hashed_files=hashed_files, layers=stored, said=said
        )
        workspace.provider = lambda name: SimpleNamespace(layers=layers)
        yield Scrub(workspace, said.append)


def stored(scrub: Scrub) -> Any:
    return scrub.workspace.store


def test_everything_has_its_turn(scrub: Scrub) -> None:
    for _ in range(4):
        scrub.step()
    wanted = {digest for layer in LAYERS for digest in (layer.digest, layer.diff_id)}
    assert set(stored(scrub).read) == wanted and len(stored(scrub).read) == 4
    for _ in range(4):
        scrub.step()
    assert sorted(stored(scrub).read) == sorted([*wanted, *wanted])


def test_what_is_damaged_is_told_of_once_and_no_longer_sealed(scrub: Scrub) -> None:
    rotten = LAYERS[0].digest
    for _ in range(4):
        scrub.step()
    hashed_files, path = scrub.workspace.hashed_files, stored(scrub).path(rotten)
    assert hashed_files.holds(path)
    stored(scrub).rotten.add(rotten)
    for _ in range(8):
        scrub.step()
    told = [event.detail for event in scrub.workspace.ledger.history() if event.kind == "damaged"]
    assert [one["what"] for one in told] == [f"blob {rotten}"] and not hashed_files.holds(path)
    assert len(scrub.workspace.said) == 1  # type: ignore[attr-defined]


def test_an_image_that_is_gone_is_no_reason_to_stop(scrub: Scrub, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(digest: Digest) -> Any:
        raise ImageNotFound("there is no such image")

    monkeypatch.setattr(stored(scrub), "image", gone)
    scrub.step()
    scrub.step()
    assert set(stored(scrub).read) == {layer.diff_id for layer in LAYERS}


def test_a_file_that_was_written_to_is_no_longer_sealed(tmp_path: Path) -> None:
    hashed_files, path = HashedFiles(tmp_path / "sealed"), tmp_path / "blob"
    path.write_text("one")
    with hashed_files.sealing(path):
        pass
    assert hashed_files.holds(path)
    path.write_text("two")
    assert not hashed_files.holds(path)
    path.unlink()
    assert not hashed_files.holds(path)
