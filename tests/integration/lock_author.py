"""A definition, an archive of our own and an empty index: whoever tests locking has them. Real apt, no network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from local_archive import LocalArchive, fill, served

from instar.definition import load
from instar.lock.fit import require_fit
from instar.lock.resolve import Update, resolve
from instar.model.lock import Lock
from instar.model.progress import Report, silent


@dataclass
class Author:
    folder: Path
    archive: LocalArchive

    def write(
        self,
        *packages: str,
        base: str = "debian:bookworm",
        python: str = "",
        suites: str = "",
        archives: str = "",
        build: str = "",
        platforms: str = "",
    ) -> None:
        (self.folder / "instar.yaml").write_text(
            "name: web\n"
            + (f"build: {build}\n" if build else "")
            + f"image:\n  base: {base}\n  packages: [{', '.join(packages)}]\n"
            + (f"  platforms: [{platforms}]\n" if platforms else "")
            + ("  python: requirements.txt\n" if python else "")
            + (f"  suites: [{suites}]\n" if suites else "")
            + (f"  archives:\n    {archives}\n" if archives else "")
            + 'service: {command: [sleep, "1"]}\nenvironments: {dev: {}}\n'
        )
        if python:
            (self.folder / "requirements.txt").write_text(python)

    def lock(
        self, previous: Lock | None = None, update: Update = None, *, anew: bool = False, report: Report = silent
    ) -> Lock:
        loaded = load(self.folder / "instar.yaml")
        lock = resolve(loaded, self.folder / "the cache", previous, update, report, anew=anew)
        require_fit(lock, loaded)
        return lock


@contextmanager
def author_in(folder: Path) -> Iterator[Author]:
    (folder / "archive").mkdir()
    with served(folder / "archive") as address, pytest.MonkeyPatch.context() as patch:
        archive = LocalArchive(folder / "archive", address)
        fill(archive)
        archive.publish()
        patch.setenv("INSTAR_APT_SOURCES", str(archive.sources(folder / "sources.list")))
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(folder))
        yield Author(folder, archive)
