"""What a slim image left out: STEPS/left-out/SERVICE.txt, a path a line, of the last time that the step ran; and
SERVICE.json beside it, which says of which step that is."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from os import fsencode
from pathlib import Path
from typing import Final

from instar import durable
from instar.frozen import dataclass
from instar.model.codec import canonical, parse

FOLDER: Final = "left-out"
_LISTED: Final = 200_000


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """``files`` are regular files, ``listed`` is where they stand, with folders and links."""

    files: int
    size_bytes: int
    listed: Path


def write(folder: Path, service: str, key: str, paths: Sequence[str], *, files: int, size_bytes: int) -> LeftOut:
    """Write down what the step with ``key`` left out. Raises OSError."""
    listed = folder / f"{service}.txt"
    durable.write(listed, b"".join(fsencode(f"/{path}\n") for path in paths[:_LISTED]), mode=0o644)
    told = {"key": key, "files": files, "size": size_bytes}
    durable.write(folder / f"{service}.json", canonical(told), mode=0o644)
    return LeftOut(files=files, size_bytes=size_bytes, listed=listed)


def find(steps: Path, service: str, key: str) -> LeftOut | None:
    """Return what the step with ``key`` left out; None where what is written down is of another."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        told = parse(durable.read(steps / FOLDER / f"{service}.json"))
        if told["key"] == key:
            listed = steps / FOLDER / f"{service}.txt"
            return LeftOut(files=int(told["files"]), size_bytes=int(told["size"]), listed=listed)
    return None
