"""What steps gave, by their keys: STATE/steps/KEY.json → the layer, and the numbers of the user that it found or made.

A record is worth something only while the store has the layer's blob. It is put in place whole; one that a crash of
the machine emptied is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from instar import durable
from instar.errors import BakeError
from instar.model.codec import canonical, from_json, parse, to_json
from instar.model.image import Layer

if TYPE_CHECKING:
    from instar.store import Store


class Records:
    """The records in ``folder``, of layers in ``store``."""

    def __init__(self, folder: Path, store: Store) -> None:
        self._folder = folder
        self._store = store

    def find(self, key: str) -> Layer | None:
        """Return the layer that a step with ``key`` gave, if it is there still. Reads no blob."""
        return self.held(_layer(self._folder / f"{key}.json"))

    def held(self, layer: Layer | None) -> Layer | None:
        """Return a layer if the store has it."""
        return layer if layer is not None and self._store.holds(layer) else None

    def find_user(self, key: str) -> tuple[int, int] | None:
        """Return the numbers of the user and its group, if the step with ``key`` found or made one."""
        try:
            uid, gid = parse(durable.read(self._folder / f"{key}.json"))["user"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return (uid, gid) if type(uid) is type(gid) is int else None

    def add(self, key: str, layer: Layer, user: tuple[int, int] | None = None) -> None:
        """Keep what a step gave. Raises BakeError."""
        told = {"layer": to_json(layer), **({"user": list(user)} if user else {})}
        try:
            durable.write(self._folder / f"{key}.json", canonical(told), mode=0o644)
        except OSError as error:
            raise BakeError(f"cannot write to '{self._folder}': {error.strerror}") from error

    def layers(self) -> Mapping[str, Layer]:
        """Return every record that is worth something: key → layer."""
        found = ((path.stem, self.find(path.stem)) for path in self._folder.glob("[0-9a-f]*.json"))
        return {key: layer for key, layer in found if layer is not None}

    def prune(self) -> int:
        """Remove the records of layers that the store has no longer, and what was half written; return how many."""
        kept = self.layers()
        gone = [path for path in self._folder.glob("*.json") if path.stem not in kept]
        gone += durable.leftovers(self._folder)
        for path in gone:
            path.unlink(missing_ok=True)
        return len(gone)


def _layer(path: Path) -> Layer | None:
    try:
        return from_json(Layer, parse(durable.read(path))["layer"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
