"""An author whose definition names an archive of somebody else's, with its own key. Real apt and gpg, no network."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local_archive import LocalArchive, served
from lock_author import Author, author_in
from signing import Signer

from instar.model.lock import Lock


@dataclasses.dataclass
class Vendor:
    """An author whose definition names an archive of somebody else's, ``archive``, as 'vendor'."""

    author: Author
    archive: LocalArchive
    signer: Signer

    def wish(self, *packages: str, more: str = "") -> None:
        address, names = self.archive.address, ", ".join(packages)
        archives = f"vendor: {{uris: '{address}', suites: bookworm, signed_by: keys/v.asc, packages: [{names}]{more}}}"
        self.author.write("perl", archives=archives)

    def lock(self, previous: Lock | None = None, **more: object) -> Lock:
        return self.author.lock(previous, **more)  # type: ignore[arg-type]


@contextmanager
def vendor_in(tmp_path: Path, signer: Signer) -> Iterator[Vendor]:
    folder = tmp_path / "vendor"
    folder.mkdir()
    with author_in(tmp_path) as author, served(folder) as address:
        archive = LocalArchive(folder, address, label="Vendor", signer=signer)
        archive.add("node", "22.1-1", depends="libuv (>= 1), libc6")
        archive.add("node", "22.0-1", depends="libuv (>= 1), libc6")
        archive.add("libuv", "1.50")
        archive.publish()
        author.archive.add("node", "18.0-1", depends="libc6")
        author.archive.publish()
        signer.public(tmp_path / "keys/v.asc")
        yield Vendor(author, archive, signer)


def places(lock: Lock) -> dict[str, tuple[str, str | None]]:
    return {one.name: (one.version, one.archive) for one in lock.packages}
